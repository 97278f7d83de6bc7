"""The service's own key of TLS, made and destroyed by an administrator of a running service: no member of it serves otherwise
meanwhile, what is told of it belongs together, and the ledger says so."""
import json

from jwcrypto import jwk

from service import BIN, run


def listed(service):
    return service.admin_json("tls", "list-keys")["keys"]


def test_tls_keys(make_service, token, tmp_path):
    service = make_service(token)
    service.start()
    assert listed(service) == []
    assert service.admin("tls", "list-keys", "--out", "-", check=False).returncode != 0  # there is none
    pem = tmp_path / "first.pem"
    service.admin("tls", "make-key", "--out", pem)
    service.admin("tls", "make-key", "--curve", "P-384")
    first, second = listed(service)
    assert (first["curve"], first["state"], second["curve"], second["state"]) == ("P-256", "old", "P-384", "newest")
    assert jwk.JWK.from_pem(pem.read_bytes()).thumbprint() == first["thumbprint"] == jwk.JWK(**first["key"]).thumbprint()
    assert second["uri"].startswith("pkcs11:id=%") and second["uri"].endswith("%00%00%00%02;type=private")
    assert second["uri"] in service.admin("tls", "list-keys").stdout
    assert service.admin("tls", "destroy-key", "--version", "2", check=False).returncode == 6
    service.admin("tls", "destroy-key", "--version", "1")
    assert listed(service) == [second]
    service.stop()
    kinds = [r["kind"] for r in service.ledger() if r["kind"].startswith("tls-key") and r.get("phase") == "outcome"]
    assert kinds == ["tls-key-generate"] * 2 + ["tls-key-destroy"]
    done = run(BIN / "kbs-admin", "--profile", service.folder / "admin" / "profile.json", "--json", "audit", "verify",
               service.ledger_path, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["findings"] == [], done.stdout
