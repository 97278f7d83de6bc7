"""kbs.so and the stock openssl: what a token's keys sign and agree on, checked by an openssl that knows no provider but
its own; how it fails; what programs do to a provider that has a process of its own."""
import contextlib
import fcntl
import os
import pathlib
import re
import select
import shutil
import subprocess

import pytest

from service import BIN, TOKENS, wait_until

TESTS_BIN = BIN.parent / "tests" / "bin"
MODULES = BIN.parent / "ossl-modules"
PRELOAD = os.environ.get("KBS_PRELOAD", "")
KEYS = ("ec256", "ec384", "rsa")
CNF = """openssl_conf = init
[init]
providers = providers
[providers]
default = default_section
kbs = kbs_section
[default_section]
activate = 1
[kbs_section]
activate = 1
{section}
[req]
distinguished_name = name
[name]
"""
TIMEOUT_S = 60


class Operator:
    """Somebody with a token, a PIN file, and an openssl.cnf that loads the provider."""

    def __init__(self, folder, kind):
        done = subprocess.run([TESTS_BIN / "provider_token", kind], capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode == 77:
            pytest.skip(f"no module for {kind}")
        assert done.returncode == 0, done.stderr
        self.token_folder, self.module, env, self.init_args, pin = done.stdout.splitlines()
        self.folder = folder
        self.pin = folder / "pin"
        self.pin.write_text(pin)
        (folder / "message").write_text("what is signed\n")
        self.configure()
        self.env = {"PATH": os.environ["PATH"], "OPENSSL_CONF": str(folder / "openssl.cnf"),
                    "OPENSSL_MODULES": str(MODULES), "KBS_LIBEXEC": str(BIN), "KBS_PKCS11_MODULE": self.module,
                    "KBS_PKCS11_PIN_FILE": str(self.pin), "LD_PRELOAD": PRELOAD, "ASAN_OPTIONS": "detect_leaks=0"}
        if self.init_args:
            self.env["KBS_PKCS11_INIT_ARGS"] = self.init_args
        self.token_env = env
        if env:
            name, value = env.split("=", 1)
            self.env[name] = value

    def configure(self, section=""):
        (self.folder / "openssl.cnf").write_text(CNF.format(section=section))

    def run(self, *argv, check=True, env=None, **kwargs):
        done = subprocess.run([str(a) for a in argv], cwd=self.folder, env=env or self.env, capture_output=True,
                              text=True, timeout=TIMEOUT_S, **kwargs)
        if check:
            assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
        return done

    def openssl(self, *argv, **kwargs):
        return self.run("openssl", *argv, **kwargs)

    def plain(self, *argv, **kwargs):
        """Without the provider, the token, the PIN."""
        return self.run("openssl", *argv, env={"PATH": os.environ["PATH"], "OPENSSL_CONF": "/dev/null"}, **kwargs)

    def error(self, *argv, env=None):
        """What openssl says when it fails; and that it does."""
        done = self.openssl(*argv, check=False, env={**self.env, **(env or {})})
        assert done.returncode != 0, done.stdout
        assert "Sanitizer" not in done.stderr, done.stderr
        return done.stderr

    def public(self, key):
        path = self.folder / f"{key}.pub"
        if not path.exists():
            self.openssl("pkey", "-in", uri(key), "-pubout", "-out", path)
        return path

    def certificate(self, key):
        path = self.folder / f"{key}.pem"
        self.openssl("req", "-x509", "-new", "-key", uri(key), "-subj", "/CN=localhost", "-days", "1", "-out", path,
                     "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:TRUE")
        return path


def uri(key, *query):
    return f"pkcs11:token=kbs-test;object={key};type=private" + ("?" + "&".join(query) if query else "")


@pytest.fixture(scope="module", params=TOKENS)
def made(request, tmp_path_factory):
    operator = Operator(tmp_path_factory.mktemp(request.param), request.param)
    yield operator
    shutil.rmtree(operator.token_folder)


@pytest.fixture
def operator(made):
    made.configure()
    return made


@pytest.mark.parametrize("key", KEYS)
def test_public_key(operator, key):
    text = operator.plain("pkey", "-pubin", "-in", operator.public(key), "-noout", "-text").stdout
    assert {"ec256": "P-256", "ec384": "P-384", "rsa": "Public-Key: (2048 bit)"}[key] in text
    found = operator.openssl("storeutl", "-noout", uri(key)).stdout
    assert "0: Pkey" in found and "Total found: 1" in found
    as_public = operator.openssl("storeutl", uri(key).replace("private", "public")).stdout
    assert operator.public(key).read_text() in as_public
    assert operator.public(key).read_text() == operator.openssl("pkey", "-pubin", "-in", uri(key), "-pubout").stdout


def test_private_key_does_not_come_out(operator):
    for options in ([], ["-outform", "DER"], ["-text", "-noout"]):
        done = operator.openssl("pkey", "-in", uri("ec256"), *options, check=False)
        assert "PRIVATE KEY" not in done.stdout and "priv:" not in done.stdout
    assert operator.openssl("pkey", "-in", uri("ec256"), check=False).returncode != 0


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("md", ("sha256", "sha384", "sha512"))
def test_dgst(operator, key, md):
    operator.openssl("dgst", f"-{md}", "-sign", uri(key), "-out", "sig", "message")
    verify = ("dgst", f"-{md}", "-verify", operator.public(key), "-signature", "sig")
    assert "Verified OK" in operator.plain(*verify, "message").stdout
    assert operator.plain(*verify, operator.public(key), check=False).returncode != 0
    operator.openssl("dgst", f"-{md}", "-prverify", uri(key), "-signature", "sig", "message")


@pytest.mark.parametrize("md", ("sha256", "sha384"))
@pytest.mark.parametrize("salt", (None, "digest", "max", "0", "17"))
def test_dgst_pss(operator, md, salt):
    options = ["-sigopt", "rsa_padding_mode:pss"]
    said = ["-sigopt", f"rsa_pss_saltlen:{salt}"] if salt else []
    operator.openssl("dgst", f"-{md}", "-sign", uri("rsa"), *options, *said, "-out", "sig", "message")
    expected = ["-sigopt", f"rsa_pss_saltlen:{salt or 'digest'}"]
    verify = ("dgst", f"-{md}", "-verify", operator.public("rsa"), *options)
    operator.plain(*verify, *expected, "-signature", "sig", "message")
    assert operator.plain(*verify, "-sigopt", "rsa_pss_saltlen:16", "-signature", "sig", "message",
                          check=False).returncode != 0


@pytest.mark.parametrize("key,options", (
    ("ec256", ()), ("ec384", ()), ("rsa", ("digest:sha256",)),
    ("rsa", ("digest:sha256", "rsa_padding_mode:pss", "rsa_pss_saltlen:32"))))
def test_pkeyutl_sign(operator, key, options):
    operator.plain("dgst", "-sha256", "-binary", "-out", "digest", "message")
    said = [word for option in options for word in ("-pkeyopt", option)]
    operator.openssl("pkeyutl", "-sign", "-inkey", uri(key), *said, "-in", "digest", "-out", "sig")
    verify = ["pkeyutl", "-verify", "-in", "digest", "-sigfile", "sig", *said]
    operator.plain(*verify, "-pubin", "-inkey", operator.public(key))
    operator.openssl(*verify, "-inkey", uri(key))
    assert "digest" in operator.error("pkeyutl", "-sign", "-inkey", uri(key), *said, "-in", "message", "-out", "sig")


@pytest.mark.parametrize("key,curve", (("ec256", "P-256"), ("ec384", "P-384")))
def test_pkeyutl_derive(operator, key, curve):
    operator.plain("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-out", "peer")
    operator.plain("pkey", "-in", "peer", "-pubout", "-out", "peer.pub")
    operator.openssl("pkeyutl", "-derive", "-inkey", uri(key), "-peerkey", "peer.pub", "-out", "z")
    operator.plain("pkeyutl", "-derive", "-inkey", "peer", "-peerkey", operator.public(key), "-out", "z-peer")
    z = (operator.folder / "z").read_bytes()
    assert len(z) == {"P-256": 32, "P-384": 48}[curve] and z == (operator.folder / "z-peer").read_bytes()
    other = operator.error("pkeyutl", "-derive", "-inkey", uri(key), "-peerkey",
                           operator.public("ec384" if key == "ec256" else "ec256"), "-out", "z")
    assert "curve" in other or "different parameters" in other


@pytest.mark.parametrize("key,options", (
    ("ec256", ()), ("ec384", ("-sha384",)), ("rsa", ()), ("rsa", ("-sigopt", "rsa_padding_mode:pss")),
    ("rsa", ("-sha512", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max"))))
def test_request_and_certificates(operator, key, options):
    operator.openssl("req", "-new", "-key", uri(key), "-subj", "/CN=kbs.example", *options, "-out", "req")
    done = operator.plain("req", "-in", "req", "-verify", "-noout", "-text")
    assert "verify OK" in done.stdout + done.stderr
    assert ("rsassaPss" in done.stdout) == ("rsa_padding_mode:pss" in options)
    ca = operator.certificate("ec384")
    operator.openssl("x509", "-req", "-in", "req", "-CA", ca, "-CAkey", uri("ec384"), "-days", "1", "-out", "leaf")
    operator.plain("verify", "-CAfile", ca, "leaf")
    refused = operator.error("x509", "-req", "-in", "req", "-CA", ca, "-CAkey", uri("ec256"), "-out", "leaf")
    assert "match" in refused


def test_cms(operator):
    """Where the signer's key says by which padding it signs."""
    for key in KEYS:
        cert = operator.certificate(key)
        operator.openssl("cms", "-sign", "-signer", cert, "-inkey", uri(key), "-in", "message", "-out", "cms")
        operator.plain("cms", "-verify", "-CAfile", cert, "-purpose", "any", "-in", "cms", "-out", "back")


@contextlib.contextmanager
def server(operator, key, *options):
    """`openssl s_server` on a port of its choice, which is yielded."""
    process = subprocess.Popen(["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", operator.certificate(key),
                                "-key", uri(key), "-www", *options], cwd=operator.folder, env=operator.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = ""
    try:
        while not (match := re.search(r"ACCEPT \S*:(\d+)", said)):
            assert select.select([process.stdout], [], [], TIMEOUT_S)[0], said
            part = os.read(process.stdout.fileno(), 4096).decode()
            assert part, f"s_server ended: {said}"
            said += part
        yield int(match.group(1))
    finally:
        process.kill()
        process.wait(TIMEOUT_S)
        process.stdout.close()


def connect(operator, port, key, *options):
    return operator.plain("s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-CAfile",
                          f"{key}.pem", "-verify_hostname", "localhost", "-verify_return_error", "-brief", *options,
                          stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("key", KEYS)
def test_s_server(operator, key):
    with server(operator, key) as port:
        for version in ("1.3", "1.2", "1.3"):
            done = connect(operator, port, key, f"-tls{version.replace('.', '_')}")
            assert done.returncode == 0, done.stderr
            assert f"TLSv{version}" in done.stderr and "Verification: OK" in done.stderr
            assert re.search("rsa.pss" if key == "rsa" else "ecdsa", done.stderr, re.I)


def test_a_server_that_is_killed_takes_its_worker_along(operator):
    with server(operator, "ec256") as port:
        assert connect(operator, port, "ec256").returncode == 0
        worker = worker_of(operator)
        assert len(worker) == 1
        pidfd = os.pidfd_open(worker[0])
    try:
        assert select.select([pidfd], [], [], TIMEOUT_S)[0], "the worker is still there"
    finally:
        os.close(pidfd)


def worker_of(operator):
    """Pids of the kbs-token whose program loaded the provider with this operator's environment."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            parent = re.search(r"^PPid:\s+(\d+)", (entry / "status").read_text(), re.M).group(1)
            if (entry / "comm").read_text() == "kbs-token\n" and \
               str(operator.pin).encode() in pathlib.Path(f"/proc/{parent}/environ").read_bytes():
                found.append(int(entry.name))
    return found


# ---- how a key is named, and settings are given ----

def test_names(operator):
    percent = uri("a%20key%2f100%25")
    by_id = "pkcs11:token=kbs-test;id=%06"
    both = "pkcs11:id=%06;object=a%20key%2f100%25;token=kbs-test"
    texts = {operator.openssl("pkey", "-in", name, "-pubout").stdout for name in (percent, by_id, both)}
    assert len(texts) == 1 and "BEGIN PUBLIC KEY" in texts.pop()
    twins = {operator.openssl("pkey", "-in", f"pkcs11:object=twin;id=%0{n};token=kbs-test", "-pubout").stdout
             for n in (4, 5)}
    assert len(twins) == 2


def test_settings_in_the_uri(operator):
    env = {name: value for name, value in operator.env.items() if name not in
           ("KBS_PKCS11_MODULE", "KBS_PKCS11_PIN_FILE")}
    for source in (f"pin-source=file:{operator.pin}", f"pin-source={operator.pin}", f"pin-source=file://{operator.pin}"):
        operator.openssl("pkey", "-in", uri("ec256", f"module-path={operator.module}", source), "-pubout", env=env)
    wrong = {**operator.env, "KBS_PKCS11_MODULE": "/nonexistent", "KBS_PKCS11_PIN_FILE": "/nonexistent"}
    operator.openssl("pkey", "-in", uri("ec256", f"module-path={operator.module}", f"pin-source={operator.pin}"),
                     "-pubout", env=wrong)


def test_settings_in_openssl_cnf(operator):
    lines = [f"pkcs11-module = {operator.module}", f"pin-file = {operator.pin}", f"libexec = {BIN}",
             f"folders = {operator.token_folder}"]
    if operator.init_args:
        lines.append(f'init-args = "{operator.init_args}"')
    if operator.token_env:
        lines.append(f"env = {operator.token_env}")
    operator.configure("\n".join(lines))
    env = {name: operator.env[name] for name in
           ("PATH", "OPENSSL_CONF", "OPENSSL_MODULES", "LD_PRELOAD", "ASAN_OPTIONS")}
    operator.openssl("dgst", "-sha256", "-sign", uri("ec256"), "-out", "sig", "message", env=env)
    operator.plain("dgst", "-sha256", "-verify", operator.public("ec256"), "-signature", "sig", "message")
    operator.configure("\n".join(lines[1:]))
    done = operator.openssl("pkey", "-in", uri("ec256"), "-pubout", env=env, check=False)
    assert "no PKCS#11 module" in done.stderr


# ---- how it fails ----

def test_wrong_pin(operator):
    """It is tried once, whatever is started, until its file is changed."""
    wrong = operator.folder / "wrong"
    wrong.write_text("not it")
    ask = ("pkey", "-in", uri("ec256"), "-pubout")
    env = {"KBS_PKCS11_PIN_FILE": str(wrong)}
    said = operator.error(*ask, env=env)
    assert "login refused" in said and "the token: " in said, said
    for _ in range(2):
        said = operator.error(*ask, env=env)
        assert "login refused" in said and "not tried again until the file is changed" in said, said
    operator.openssl(*ask)
    wrong.write_text(operator.pin.read_text())
    operator.openssl(*ask, env={**operator.env, **env})


def test_a_login_waits_for_others(operator):
    """As kbsd does, which may be starting a worker on the same token."""
    with open(operator.folder / "token.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(["openssl", "pkey", "-in", uri("ec256"), "-pubout"], cwd=operator.folder,
                                   env=operator.env, stdout=subprocess.PIPE, text=True)
        wait_until(lambda: worker_of(operator), TIMEOUT_S, "the worker")
        assert not select.select([process.stdout], [], [], 0.3)[0]
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert "BEGIN PUBLIC KEY" in process.communicate(timeout=TIMEOUT_S)[0]
    assert process.returncode == 0


def test_a_folder_that_is_not_ours(operator, tmp_path):
    """No token.lock can be made there: the PIN file is locked itself."""
    pin = tmp_path / "pin"
    pin.write_text(operator.pin.read_text())
    (tmp_path / "token.lock").mkdir()
    operator.openssl("pkey", "-in", uri("ec256"), "-pubout", env={**operator.env, "KBS_PKCS11_PIN_FILE": str(pin)})


@pytest.mark.parametrize("name,env,expected", (
    (uri("none-such"), {}, "no private key that the URI matches"),
    (uri("twin"), {}, "matches more than one private key"),
    ("pkcs11:token=another;object=ec256", {}, "no initialised token matches"),
    ("pkcs11:token=kbs-test;object=ec256;type=cert", {}, "names no key"),
    ("pkcs11:token=kbs-test;object=ec256;slot-id=1", {}, "slot-id does not name a key"),
    ("pkcs11:object", {}, "not NAME=VALUE"),
    ("pkcs11:object=%zz;token=kbs-test", {}, "does not parse"),
    (uri("ec256", "pin-value=4711-geh"), {}, "seen by others"),
    (uri("ec256", "pin-source=|cat%20pin"), {}, "not a command"),
    (uri("ec256", "pin-source=file:/nonexistent"), {}, "/nonexistent cannot be read"),
    (uri("ec256", "module-path=/nonexistent.so"), {}, "/nonexistent.so"),
    (uri("ec256", "module-path=/a&module-path=/b"), {}, "twice"),
    (uri("ec256", "module-name=softhsm2"), {}, "module-name is unknown"),
    (uri("ec256"), {"KBS_PKCS11_MODULE": ""}, "no PKCS#11 module: KBS_PKCS11_MODULE"),
    (uri("ec256"), {"KBS_PKCS11_PIN_FILE": ""}, "no PIN: KBS_PKCS11_PIN_FILE"),
    (uri("ec256"), {"KBS_LIBEXEC": "/nonexistent"}, "cannot start /nonexistent/kbs-token"),
    (uri("ec256"), {"KBS_LIBEXEC": "", "KBS_TOKEN_PROGRAM": "/bin/false"}, "/bin/false ended before it was ready"),
    (uri("ec256"), {"KBS_PKCS11_ENV": "nonsense"}, "not NAME=value"),
))
def test_errors(operator, name, env, expected):
    said = operator.error("dgst", "-sha256", "-sign", name, "-out", "sig", "message", env=env)
    assert expected in said, said
    assert "4711-geh" not in said.replace("pin-value=4711-geh", "")


def test_no_certificates(operator):
    assert "not certificates" in operator.error("x509", "-in", uri("ec256"))


def test_hash_that_is_not_offered(operator):
    said = operator.error("dgst", "-sha1", "-sign", uri("ec256"), "-out", "sig", "message")
    assert "only SHA-256, SHA-384 and SHA-512" in said


# ---- what is in the process ----

def test_one_symbol():
    symbols = subprocess.run(["nm", "-D", "--defined-only", MODULES / "kbs.so"], check=True, capture_output=True,
                             text=True).stdout.split()
    assert [name for name in symbols if not PRELOAD or "asan" not in name][2::3] == ["OSSL_provider_init"]


def test_the_module_is_not_loaded(operator):
    done = operator.openssl("pkey", "-in", uri("ec256"), "-pubout", env={**operator.env, "LD_DEBUG": "files"})
    assert "kbs.so" in done.stderr
    assert pathlib.Path(operator.module).name not in done.stderr


def test_many_at_a_time(operator):
    """Each a process with a login of its own."""
    command = ["openssl", "dgst", "-sha256", "-sign", uri("ec256"), "message"]
    processes = [subprocess.Popen(command, cwd=operator.folder, env=operator.env, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True) for _ in range(12)]
    said = [process.communicate(timeout=TIMEOUT_S)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 12, said


@pytest.mark.parametrize("case", ("traces", "fork", "idle-children", "lasting-child", "killed", "threads", "interrupted",
                                  "no-standard-descriptors", "children-ignored", "exit"))
def test_program(operator, case):
    env = {**operator.env, "LD_PRELOAD": "", "ASAN_OPTIONS": ""}
    operator.run(TESTS_BIN / "provider_process", case, uri("ec256"), env=env, start_new_session=True)


def test_program_with_a_wrong_pin(operator):
    (operator.folder / "wrong").write_text("not it")
    env = {**operator.env, "LD_PRELOAD": "", "ASAN_OPTIONS": "", "KBS_PKCS11_PIN_FILE": str(operator.folder / "wrong")}
    operator.run(TESTS_BIN / "provider_process", "wrong-pin", uri("ec256"), env=env)
