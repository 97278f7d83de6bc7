"""HTTP as the Rust clients of the KBS protocol speak it: HTTP/1.1 on kept connections, header names in lower case, a cookie
store by RFC 6265 that follows domain, path, Secure and Expires, no redirects.

Independent of src/ and of the system suite: what the service answers is judged here by the standards and by the clients' rules.
"""
import email.utils
import http.client
import ssl
import time
import urllib.parse
from dataclasses import dataclass

TIMEOUT_S = 60  # of a request, as guest-components sets it


@dataclass
class Cookie:
    name: str
    value: str
    path: str
    secure: bool
    expires: float | None  # Unix seconds; None: as long as the client lives


class CookieStore:
    """RFC 6265 section 5, for one host."""

    def __init__(self, host):
        self.host = host
        self.cookies = {}

    @staticmethod
    def default_path(request_path):
        """Section 5.1.4."""
        if not request_path.startswith("/") or request_path.count("/") == 1:
            return "/"
        return request_path[:request_path.rindex("/")]

    @staticmethod
    def path_matches(request_path, cookie_path):
        """The same section."""
        if request_path == cookie_path:
            return True
        return request_path.startswith(cookie_path) and (cookie_path.endswith("/") or
                                                         request_path[len(cookie_path)] == "/")

    def keep(self, set_cookie, request_path):
        pair, *attributes = set_cookie.split(";")
        name, _, value = pair.partition("=")
        cookie = Cookie(name.strip(), value.strip(), self.default_path(request_path), False, None)
        max_age = None
        for attribute in attributes:
            key, _, text = attribute.strip().partition("=")
            key, text = key.strip().lower(), text.strip()
            if key == "path" and text.startswith("/"):
                cookie.path = text
            elif key == "secure":
                cookie.secure = True
            elif key == "domain" and text.lstrip(".").lower() != self.host.lower():
                return  # section 5.3, step 6: of another host
            elif key == "expires":
                cookie.expires = email.utils.parsedate_to_datetime(text).timestamp()
            elif key == "max-age":
                max_age = int(text)
        if max_age is not None:
            cookie.expires = time.time() + max_age
        self.cookies[cookie.name, cookie.path] = cookie

    def header(self, request_path, is_https):
        """The value of Cookie for a request, or None. Longer paths first, as section 5.4 asks."""
        now = time.time()
        fit = [c for c in self.cookies.values()
               if self.path_matches(request_path, c.path) and (is_https or not c.secure)
               and (c.expires is None or c.expires > now)]
        fit.sort(key=lambda c: -len(c.path))
        return "; ".join(f"{c.name}={c.value}" for c in fit) or None


@dataclass
class Answer:
    status: int
    headers: list  # of (name, value), names in lower case
    body: bytes

    def header(self, name):
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None


class HttpClient:
    """One client: a connection, a cookie store. `seen` holds what was asked and answered, for the tests to look at."""

    def __init__(self, url, cert=None, user_agent="attestation-agent-kbs-client/0.1.0", cookies=True):
        parts = urllib.parse.urlsplit(url)
        self.https = parts.scheme == "https"
        self.authority = parts.netloc
        self.user_agent = user_agent
        self.store = CookieStore(parts.hostname) if cookies else None
        self.seen = []
        if self.https:
            context = ssl.create_default_context(cafile=cert)
            context.set_alpn_protocols(["h2", "http/1.1"])  # what such clients offer; this one goes on with HTTP/1.1 only
            self.connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=context)
        else:
            self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)

    def close(self):
        self.connection.close()

    def request(self, method, target, body=None, headers=()):
        for is_last in (False, True):
            try:
                answer = self._once(method, target, body, headers)
                break
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # The server may close a kept connection at any time; a request on a fresh one must be answered.
                self.connection.close()
                if is_last:
                    raise
        path = urllib.parse.urlsplit(target).path
        if self.store is not None:
            for name, value in answer.headers:
                if name == "set-cookie":
                    self.store.keep(value, path)
        self.seen.append((method, target, answer.status))
        return answer

    def _once(self, method, target, body, headers):
        connection = self.connection
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        sent = dict(headers)
        cookie = self.store.header(urllib.parse.urlsplit(target).path, self.https) if self.store is not None else None
        if cookie is not None:
            sent["cookie"] = cookie
        sent |= {"user-agent": self.user_agent, "accept": "*/*", "host": self.authority}
        if body is not None:
            sent["content-length"] = str(len(body))
        for name, value in sent.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, [(name.lower(), value) for name, value in response.getheaders()], response.read())
