import HoldfastProtocol
import NIOCore

/// Lines, from the attempt to the session that they carry.
extension ConnectionMachine {
    /// Opens a line: main, or a rival beside a live main.
    mutating func attempt() {
        self.attemptAt = nil
        self.counts.attempts += 1
        self.lastLine += 1
        let line = Line(id: self.lastLine, phaseAt: self.now)
        if self.main == nil {
            self.main = line
        } else {
            self.rival = line
            if !self.isMoving { self.counts.races += 1 }
        }
        self.act(.open(line: line.id))
    }

    /// - Returns: `nil` for a line that we have let go.
    func role(of line: Int) -> Role? {
        if self.main?.id == line { return .main }
        return self.rival?.id == line ? .rival : nil
    }

    mutating func letGo(_ line: Line, code: CloseCode? = nil) {
        self.haunt(line)
        self.act(.close(line: line.id, code: code))
    }

    mutating func haunt(_ line: Line) {
        if line.phase == .hello, line.isResuming { self.ghosts += 1 }
    }

    mutating func opened(_ id: Int, auth: ByteBuffer?) {
        switch self.role(of: id) {
        case .main where self.main?.phase == .opening:
            self.main?.auth = auth
            self.hello()
        case .rival where self.rival?.phase == .opening:
            self.rival?.auth = auth
            self.rival?.enter(.probing, now: self.now)
            self.send(on: id) { $0.member("event", "probe") }
        case .main, .rival, nil:
            return
        }
    }

    /// Sends an event that is not counted.
    mutating func send(on line: Int, _ write: (inout JSONWriter) -> Void) {
        self.act(.send(line: line, text: JSONWriter.object(write)))
    }

    /// The rival, or the line that was one, has spoken first: the session goes to it.
    mutating func move(_ role: Role) {
        if role == .rival, let main = self.main {
            if self.wasUseful {
                self.backoff.failures = 0
            } else if !self.isMoving {
                self.backoff.failures += 1
            }
            self.letGo(main)
            self.main = self.rival
            self.rival = nil
            self.isMoving = false
        }
        self.hello()
    }

    /// Says hello on main.
    mutating func hello() {
        guard var main = self.main else { return }
        main.isResuming = self.session != nil
        main.enter(.hello, now: self.now)
        self.main = main
        let (session, received, options) = (self.session, self.received, self.options)
        self.send(on: main.id) { json in
            json.member("event", "hello")
            json.member("version", ProtocolLimits.version)
            if let session {
                json.member(
                    "resume",
                    object: { json in
                        json.member("session", session)
                        json.member("received", received)
                    })
            }
            json.member(
                "client",
                object: { json in
                    json.member("name", options.clientName)
                    json.member("version", options.clientVersion)
                })
        }
        if main.isResuming {
            self.told()
        } else {
            self.beginSession(auth: main.auth)
        }
    }

    /// Everything that a new session has to know, in one flight.
    mutating func beginSession(auth: ByteBuffer?) {
        self.received = 0
        self.told()
        self.mustReauthenticate = false
        let messages = self.withdraw()
        if let auth { self.post(self.authCommand(auth)) }
        for var topic in self.topics.values.sorted(by: { $0.order < $1.order }) {
            let command = self.subscribeCommand(&topic)
            self.topics[topic.name] = topic
            self.outbox.awaitAnswer(to: command)
            self.post(command)
        }
        for message in messages { self.post(message) }
    }

    /// The reply to hello, on main.
    mutating func welcome(_ event: WireEvent) {
        guard let main = self.main else { return }
        guard event.status == "ok", let session = event["session"]?.string else { return self.refused(main, event) }
        let isResumed = main.isResuming && event["resumed"]?.boolean == true
        if isResumed, !self.outbox.acknowledge(event["received"]?.unsignedInteger) {
            self.tellBadCount(event)
            self.session = nil
            self.letGo(main)
            return self.lost(.main, .badCount)
        }
        self.takeAdvice(event)
        self.roundTrip.sample(self.now - main.phaseAt)
        _ = self.liveness.heard(now: self.now, isAnswer: true)
        self.ping = nil
        self.pongBy = nil
        self.liveAt = self.now
        self.main?.enter(.live, now: self.now)
        if !isResumed { self.ghosts = 0 }
        self.session = session
        self.attemptNotBefore = Instant(microseconds: 0)
        if isResumed {
            self.counts.resumed += 1
        } else {
            self.counts.sessions += 1
        }
        if self.state != .connected { self.become(.connected, isResumed ? .resumed : .newSession) }
        self.tell(.connected(resumed: isResumed, event: event))
        if isResumed {
            if self.mustReauthenticate, let auth = main.auth { self.outbox.post(self.authCommand(auth), first: true) }
            self.mustReauthenticate = false
            for command in self.outbox.unacknowledged { self.write(command) }
        } else if main.isResuming {
            self.beginSession(auth: main.auth)
        }
        self.wantCount()
    }

    private mutating func takeAdvice(_ hello: WireEvent) {
        self.liveness.visibleInterval = hello.span("heartbeat", "interval") ?? self.liveness.visibleInterval
        self.liveness.hiddenInterval = hello.span("heartbeat", "hidden_interval") ?? self.liveness.hiddenInterval
        self.liveness.timeout = hello.span("heartbeat", "timeout") ?? self.liveness.timeout
        self.backoff.spread = hello.span("spread") ?? self.backoff.spread
    }

    private mutating func refused(_ main: Line, _ event: WireEvent) {
        if event.code == "unknown_session" { self.session = nil }
        self.tellProblem("hello_refused", "The server refused hello.", event)
        self.letGo(main)
        self.lost(.main, .helloRefused, advice: self.backoff.range(event.retryAfter))
    }
}
