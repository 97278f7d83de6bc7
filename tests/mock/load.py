"""Guests that release one key over and over, each on its own session and connection, and keep what came of it. Every
request carries a nonce, which the answer has to be bound to: an answer that is lost, doubled or another's shows."""
import statistics
import threading
import time

from kbsguest import Guest, kcv, random_nonce


ABSENT_S = 2.9  # KBS_LIMIT_LANE_ABSENT_MS is 3000
SESSION_S = 100  # then a guest shakes hands again, long before its session ends


class Load(threading.Thread):
    def __init__(self, service, path, kid, wanted_kcv, pause_s=0):
        super().__init__(daemon=True)
        self.pause_s = pause_s  # between an answer and the next request
        self.path, self.kid, self.kcv = path, kid, wanted_kcv
        self.address = service.guest_url, service.ca
        self.guest = Guest(*self.address).handshake()
        self.renew_at = time.monotonic() + SESSION_S
        self.answers = []  # (when it was asked, seconds, status, Retry-After, whether there was no lane)
        self.wrong, self.unanswered = [], []
        self.ending = threading.Event()

    def run(self):
        while not self.ending.is_set():
            nonce = random_nonce()
            begun = time.monotonic()
            if begun > self.renew_at:
                self.renew()
            try:
                answer = self.ask(nonce)
            except OSError as error:  # time-outs among them
                self.unanswered.append(repr(error))
                self.guest.http.close()
                continue
            seconds = time.monotonic() - begun
            no_lane = answer.status == 503 and (seconds > ABSENT_S or b"no lane is ready" in answer.body)
            self.answers.append((begun, seconds, answer.status, answer.headers.get("retry-after"), no_lane))
            if answer.status == 200:
                self.check(answer, nonce)
            elif answer.status == 503:
                self.ending.wait(0.02)  # Retry-After says 1 s; a test has not that long
            if self.pause_s:
                self.ending.wait(self.pause_s)

    def renew(self):
        """Another session. If a lane dies under the handshake, the old one is good for a while."""
        guest = Guest(*self.address)
        try:
            if guest.auth().status != 200 or guest.attest().status != 200:
                return
        except OSError:
            return
        self.guest.close()
        self.guest, self.renew_at = guest, time.monotonic() + SESSION_S

    def ask(self, nonce):
        """Without the second try of kbsguest.Http: an answer that does not come is to be seen."""
        from kbsguest import Answer, b64u
        import json
        connection = self.guest.http.connection
        connection.request("POST", "/kbs/v0/key/" + self.path, body=json.dumps({"nonce": b64u(nonce)}),
                           headers={"Accept": "application/jose+json", "Content-Type": "application/json",
                                    **self.guest.cookies()})
        return Answer(connection.getresponse())

    def check(self, answer, nonce):
        try:
            if kcv(self.guest.open_jose(answer.json(), self.kid, nonce)[1]) != self.kcv:
                self.wrong.append("another key")
        except Exception as error:  # whatever is wrong with it: it said 200
            self.wrong.append(repr(error))

    def end(self):
        self.ending.set()
        self.join(60)
        assert not self.is_alive(), "a guest hangs"


def start(service, made, path, n, pause_s=0):
    loads = [Load(service, path, f"{path}/v1", made["kcv"], pause_s) for _ in range(n)]
    for load in loads:
        load.start()
    return loads


def answers(loads, begin=0.0, end=float("inf")):
    """Answers to what was asked in that time."""
    return [a for load in loads for a in load.answers if begin <= a[0] < end]


def milliseconds(seconds):
    """(p50, p99) of a list of durations."""
    cuts = statistics.quantiles(seconds, n=100)
    return 1000 * cuts[49], 1000 * cuts[98]
