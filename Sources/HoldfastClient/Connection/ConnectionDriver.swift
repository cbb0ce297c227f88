import AsyncHTTPClient
import HoldfastCore
import HoldfastProtocol
import NIOCore
import NIOPosix
import NIOSSL

/// Carries out what the machine wants, and tells it what happens. Belongs to one event loop.
///
/// A line that was let go is forgotten: whatever its channel still does finds nobody.
final class ConnectionDriver: LineOwner {
    private struct Attempt {
        let line: any ClientLine
        /// It takes events.
        var isOpen = false
        /// What `opened` waits for.
        var auth: ByteBuffer?
        /// Asks for it.
        var fetching: Task<Void, Never>?

        func letGo(code: CloseCode?) {
            self.fetching?.cancel()
            self.line.letGo(code: code)
        }
    }

    private let configuration: ClientConfiguration
    private let tls: NIOSSLContext?
    private let loop: any EventLoop
    private let clock: MonotonicClock
    /// Takes an event, or `nil` for the end. - Returns: whether there is room for more.
    private let deliver: (ConnectionEvent?) -> Bool
    private var machine: ConnectionMachine
    private var attempts: [Int: Attempt] = [:]
    /// Made for the first line that needs it.
    private var http: HTTPClient?
    private var timer: Scheduled<Void>?
    private var inputs = CircularBuffer<ConnectionInput>()
    private var isBusy = false
    private var hasFinished = false
    /// The app does not keep up. Lines are not read, and time stands still for the machine: to it, this is a computer that
    /// sleeps. Afterwards it asks whether the line still lives, and recovers what the gateway could not wait for.
    private(set) var isPaused = false
    private var timerIsDue = false

    init(
        _ configuration: ClientConfiguration,
        tls: NIOSSLContext?,
        loop: any EventLoop,
        clock: MonotonicClock,
        deliver: @escaping (ConnectionEvent?) -> Bool
    ) {
        self.configuration = configuration
        self.tls = tls
        self.loop = loop
        self.clock = clock
        self.deliver = deliver
        var options = configuration.machine
        options.hasCredentials = configuration.credentials != nil && configuration.renewsCredentials
        self.machine = ConnectionMachine(options: options, random: { Double.random(in: 0..<1) })
        guard let stored = configuration.ladderStorage?.load(), let memory = LadderMemory(parsing: stored) else {
            return
        }
        let now = Span(microseconds: -clock.untilWallClock.microseconds)
        self.input(.memory(memory.shifted(by: now)))
    }

    var statistics: ConnectionMachine.Statistics { self.machine.statistics }

    /// Inputs are handled one after the other, also those that come while actions are carried out: else the older of two
    /// timers could be set last.
    func input(_ input: ConnectionInput) {
        self.loop.assertInEventLoop()
        guard !self.hasFinished else { return }
        self.inputs.append(input)
        guard !self.isBusy else { return }
        self.isBusy = true
        while let input = self.inputs.popFirst() { self.handle(input) }
        self.isBusy = false
        if self.machine.state == .closed { self.finish() }
    }

    private func handle(_ input: ConnectionInput) {
        if case .subscribe(let id, let subscription, _, _) = input {
            self.emit(.began(subscription: subscription, id: id))
        }
        let suspected = self.machine.isSuspect
        let transport = self.machine.liveTransport
        let actions = self.machine.handle(input, now: self.clock.now)
        if let line = self.machine.liveLine, self.machine.isSuspect != suspected {
            self.emit(.line(suspected ? .trusted(line: line) : .suspect(line: line)))
        }
        if let carrying = self.machine.liveTransport, carrying != transport {
            self.emit(.line(.carried(by: carrying)))
        }
        var written = Set<Int>()
        for action in actions {
            switch action {
            case .open(let line, let transport): self.open(line, transport)
            case .send(let line, let text, let number):
                self.attempts[line]?.line.send(self.withHeaders(text), number: number)
                written.insert(line)
            case .listen(let line, let transport, let received, let wait):
                self.attempts[line]?.line.listen(transport, received: received, wait: wait)
            case .remember(let memory):
                self.configuration.ladderStorage?.save(memory?.shifted(by: self.clock.untilWallClock).json())
            case .close(let line, let code): self.attempts.removeValue(forKey: line)?.letGo(code: code)
            case .timer(let at): self.setTimer(at)
            case .tell(let news): self.emit(.news(news))
            }
        }
        for line in written { self.attempts[line]?.line.flush() }
    }

    private func emit(_ event: ConnectionEvent) {
        if !self.deliver(event) { self.pause() }
    }

    private func finish() {
        guard !self.hasFinished else { return }
        self.hasFinished = true
        self.timer?.cancel()
        for attempt in self.attempts.values { attempt.letGo(code: nil) }
        self.attempts = [:]
        if let http = self.http { Task { try? await http.shutdown() } }
        _ = self.deliver(nil)
    }

    // MARK: Time

    private func setTimer(_ at: Instant?) {
        self.timer?.cancel()
        self.timer = nil
        self.timerIsDue = false
        guard let at else { return }
        self.fire(in: .microseconds(max(0, (at - self.clock.now).microseconds)))
    }

    private func fire(in delay: TimeAmount) {
        self.timer = self.loop.assumeIsolated().scheduleTask(in: delay) {
            self.timer = nil
            if self.isPaused {
                self.timerIsDue = true
            } else {
                self.input(.timer)
            }
        }
    }

    // MARK: A slow app

    private func pause() {
        guard !self.isPaused, !self.hasFinished else { return }
        self.isPaused = true
        for attempt in self.attempts.values { attempt.line.setReading(false) }
    }

    /// The app has caught up.
    func resume() {
        guard self.isPaused, !self.hasFinished else { return }
        self.isPaused = false
        for attempt in self.attempts.values {
            attempt.line.setReading(true)
            attempt.line.readMessages()
        }
        guard self.timerIsDue, self.timer == nil else { return }
        self.timerIsDue = false
        // What stands in the sockets is to be read first: it may be the pong that the timer would miss.
        self.fire(in: .milliseconds(10))
    }

    // MARK: Lines

    private func open(_ id: Int, _ transport: ClientTransport) {
        self.emit(.line(.opening(line: id, transport: transport)))
        switch transport {
        case .websocket:
            let line = WebSocketLine(id: id, messageBytes: self.configuration.messageBytes, owner: self)
            self.attempts[id] = Attempt(line: line)
            let timeout = TimeAmount.microseconds(self.configuration.machine.connectTimeout.microseconds)
            line.connect(
                to: self.configuration.url, through: self.configuration.proxy, tls: self.tls, on: self.loop,
                timeout: timeout)
        case .stream, .poll:
            let http = self.http ?? self.configuration.makeHTTPClient()
            self.http = http
            let line = HTTPLine(
                id: id, client: http, configuration: self.configuration, loop: self.loop, owner: self)
            self.attempts[id] = Attempt(line: line)
            // Nothing to connect: the first request does.
            self.opened(line)
        }
        guard let credentials = self.configuration.credentials else { return }
        // Fetched while the line opens. Should they never come, the machine's patience ends.
        let loop = self.loop
        let bound = NIOLoopBound(self, eventLoop: loop)
        self.attempts[id]?.fetching = Task {
            let result: Result<Credentials, any Error>
            do {
                result = .success(try await credentials())
            } catch {
                result = .failure(error)
            }
            loop.execute { bound.value.credentialsCame(result, for: id) }
        }
    }

    /// The app's headers go into `hello` on every transport, since a WebSocket has no others.
    private func withHeaders(_ text: ByteBuffer) -> ByteBuffer {
        let start = "{\"event\":\"hello\","
        guard !self.configuration.headers.isEmpty, text.readableBytesView.starts(with: start.utf8) else { return text }
        var hello = ByteBuffer(string: start + "\"headers\":")
        hello.writeImmutableBuffer(
            JSONWriter.object { json in
                for (name, value) in self.configuration.headers.sorted(by: { $0.key < $1.key }) {
                    json.member(name.lowercased(), value)
                }
            })
        hello.writeString(",")
        hello.writeBytes(text.readableBytesView.dropFirst(start.utf8.count))
        return hello
    }

    private func credentialsCame(_ result: Result<Credentials, any Error>, for id: Int) {
        guard let attempt = self.attempts[id] else { return }
        switch result {
        case .success(let credentials):
            self.attempts[id]?.auth = credentials.event
            if attempt.isOpen { self.input(.opened(line: id, auth: credentials.event)) }
        case .failure(let error):
            let text = "The credentials could not be had: \(error)"
            self.emit(.news(.problem(ConnectionProblem(code: "credentials_failed", text: text))))
            attempt.line.letGo(code: nil)
            self.ended(attempt.line, LineEnd(.abnormal, text))
        }
    }

    func opened(_ line: any ClientLine) {
        guard let attempt = self.attempts[line.id] else { return }
        self.attempts[line.id]?.isOpen = true
        if self.isPaused { line.setReading(false) }
        guard self.configuration.credentials == nil || attempt.auth != nil else { return }
        self.input(.opened(line: line.id, auth: attempt.auth))
    }

    func received(_ line: any ClientLine, _ text: ByteBuffer) {
        self.input(.receive(line: line.id, text: text))
    }

    func heard(_ line: any ClientLine) {
        self.input(.heard(line: line.id))
    }

    func cut(_ line: any ClientLine, reason: String) {
        guard self.attempts[line.id] != nil else { return }
        self.emit(.line(.cut(line: line.id, reason: reason)))
        self.input(.cut(line: line.id))
    }

    func ended(_ line: any ClientLine, _ end: LineEnd) {
        guard let attempt = self.attempts.removeValue(forKey: line.id) else { return }
        attempt.fetching?.cancel()
        self.emit(.line(.ended(line: line.id, code: end.code, reason: end.reason)))
        self.input(.closed(line: line.id, code: end.code, reason: end.closeReason, retryAfter: end.retryAfter))
    }
}
