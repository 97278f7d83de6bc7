"""The documents of the configuration say what the tables of src/config say, and the manual pages are in order."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(os.environ["KBS_SOURCE_DIR"])
KBSD = Path(os.environ["KBS_BIN_DIR"]) / "kbsd"
SNP_MAKE = Path(os.environ["KBS_BUILD_DIR"]) / "tests/bin/snp_make"
GUIDE = (SOURCE / "docs/configuration.md").read_text()
PAGE = (SOURCE / "docs/man/kbs.toml.5").read_text()
MANUALS = sorted((SOURCE / "docs/man").iterdir())


def own_keys():
    text = (SOURCE / "src/config/schema.c").read_text()
    text = re.sub(r'REQUIRE\((\w+), ("\w+"), (\w+)\)', r'KEY(REQUIRE_\1, "issuer[].require", \2, )', text)
    macros = dict(re.findall(r'#define ([A-Z]+) "([^"]+)"', text))
    keys = re.findall(r'KEY\(\w+,\s*(?:"([^"]+)"|(\w+)),\s*"(\w+)"', text)
    return [(table or macros[macro], name) for table, macro, name in keys]


def foreign_keys():
    return re.findall(r'^    \{"([\w.\[\]]+)",', (SOURCE / "src/config/foreign.c").read_text(), re.M)


def example():
    return re.search(r"```toml\n(.*?)```", GUIDE, re.S)[1]


def section(table):
    """What the manual page says about a table."""
    title = f"[[{table[:-2]}]]" if table.endswith("[]") else f"[{table}]"
    assert f".Ss {title}\n" in PAGE, title
    return re.split(r"\n\.S[sh] ", PAGE.split(f".Ss {title}\n")[1])[0]


def test_every_key_is_documented():
    keys = own_keys()
    assert len(keys) > 40
    for table, name in keys:
        # Rows of a list are described where the list is, and what is below a row with the row.
        inside = table.removesuffix("[]").rpartition(".")[0] if table.endswith("[]") and "." in table else table
        inside = inside.partition("[]")[0] + "[]" if "[]." in inside else inside
        assert re.search(rf"\b{name}\b", section(inside)), (table, name)
        assert re.search(rf"^\[+{re.escape(inside.removesuffix('[]'))}\]+", example(), re.M), table
        assert re.search(rf"\b{name} = ", example()) or f"{name}:" in example() or name == "jwk_set_uri", (table, name)
    for name in ("issuer", "audience", "public_key_uri", "jwk_set_uri", "role", "allowed_endpoints"):
        assert name in GUIDE


def test_every_key_of_trustee_is_documented():
    keys = foreign_keys()
    assert len(keys) > 90
    trustee = GUIDE.split("## For Trustee's operators")[1]
    for path in keys:
        assert re.search(rf"\b{path.rpartition('.')[2]}\b", trustee), path


def test_the_example_is_accepted(tmp_path):
    (tmp_path / "kbs.toml").write_text(example().replace("/usr/lib/softhsm/libsofthsm2.so", "module.so"))
    for folder in ("tls", "admin", "token", "store", "fetch"):
        (tmp_path / folder).mkdir()
    for name in ("tls/cert.pem", "tls/admins.pem", "as-ca.pem", "client.pem"):
        (tmp_path / name).write_text("-----BEGIN CERTIFICATE-----\n")
    for name in ("admin/admin.pub.pem", "admin/idp.pem"):
        (tmp_path / name).write_text("-----BEGIN PUBLIC KEY-----\n")
    (tmp_path / "policy.json").write_text("{}")
    (tmp_path / "snp").mkdir()
    subprocess.run([SNP_MAKE, "folder", tmp_path / "snp"], check=True, timeout=60)
    (tmp_path / "issuers").mkdir()
    for name, text in {"coco.jwks": '{"keys":[{"kty":"EC"}]}', "others.pem": "-----BEGIN PUBLIC KEY-----\n",
                       "ca.pem": "-----BEGIN CERTIFICATE-----\n", "ca.crl.pem": "-----BEGIN X509 CRL-----\n"}.items():
        (tmp_path / "issuers" / name).write_text(text)
    for name in ("tls/key.pem", "pin", "module.so", "client.key", "api-key.txt"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    done = subprocess.run([KBSD, "-c", tmp_path / "kbs.toml", "--check-config"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", MANUALS, ids=lambda page: page.name)
def test_manual_pages_format_without_a_warning(page):
    if not shutil.which("groff"):
        pytest.skip("no groff")
    done = subprocess.run(["groff", "-ww", "-mdoc", "-Tutf8", "-z", page], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_manual_pages_are_installed():
    rules = (SOURCE / "CMakeLists.txt").read_text()
    for page in MANUALS:
        assert re.search(rf"docs/man/{re.escape(page.name)}\b.*man{page.suffix[1]}\)", rules), page.name
