import HoldfastProtocol
import NIOCore

/// Lines, from the attempt to the session that they carry.
extension ConnectionMachine {
    /// Opens a line: main, or a rival beside it.
    /// - Parameter isDesperate: a WebSocket because the fallback has failed.
    mutating func open(_ transport: ClientTransport, isDesperate: Bool = false) {
        self.counts.attempts += 1
        self.lastLine += 1
        let line = Line(id: self.lastLine, transport: transport, openedAt: self.now, phaseAt: self.now)
        if self.main == nil {
            self.main = line
        } else {
            self.rival = line
        }
        if transport == .websocket { self.ladder.opened(now: self.now, isDesperate: isDesperate) }
        self.act(.open(line: line.id, transport: transport))
    }

    /// - Returns: `nil` for a line that we have let go.
    func role(of line: Int) -> Role? {
        if self.main?.id == line { return .main }
        return self.rival?.id == line ? .rival : nil
    }

    func line(_ role: Role) -> Line? {
        switch role {
        case .main: self.main
        case .rival: self.rival
        }
    }

    mutating func letGo(_ line: Line, code: CloseCode? = nil) {
        self.haunt(line)
        self.act(.close(line: line.id, code: code))
    }

    mutating func haunt(_ line: Line) {
        if line.phase == .hello, line.isResuming { self.ghosts += 1 }
    }

    mutating func opened(_ id: Int, auth: ByteBuffer?) {
        if self.main?.id == id, self.main?.phase == .opening {
            self.main?.auth = auth
            self.hello()
        } else if var rival = self.rival, rival.id == id, rival.phase == .opening {
            rival.auth = auth
            rival.enter(.probing, now: self.now)
            self.rival = rival
            self.send(on: rival) { $0.member("event", "probe") }
        }
    }

    /// Sends an event that is not counted.
    mutating func send(on line: Line, _ write: (inout JSONWriter) -> Void) {
        let number = line.transport == .websocket || line.phase != .live ? nil : self.outbox.posted + 1
        self.act(.send(line: line.id, text: JSONWriter.object(write), number: number))
    }

    /// The rival, or the line that was one, has spoken first: the session goes to it.
    mutating func move(_ role: Role) {
        if role == .rival, let main = self.main {
            if self.wasUseful {
                self.backoff.failures = 0
            } else if self.isSuspect, self.moving == nil {
                self.backoff.failures += 1
            }
            self.gone(main)
            self.letGo(main)
            self.main = self.rival
            self.rival = nil
            self.moving = nil
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
        self.send(on: main) { json in
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
            self.declined(main)
            return self.lost(.main, .badCount)
        }
        self.takeAdvice(event)
        self.judgeTransport(of: main)
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
            let first = self.outbox.acknowledged + 1
            for (index, command) in self.outbox.unacknowledged.enumerated() {
                self.write(command, number: first + UInt64(index))
            }
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

    /// What it says about transports that `line` has answered hello.
    private mutating func judgeTransport(of line: Line) {
        self.liveness.slack = .zero
        guard line.transport == .websocket else { return self.ladder.works(now: self.now) }
        self.ladder.answered(now: self.now)
        if let longest = self.ladder.longestQuiet {
            self.liveness.visibleInterval = min(self.liveness.visibleInterval, longest)
            self.liveness.hiddenInterval = min(self.liveness.hiddenInterval, longest)
        }
        guard let rival = self.rival else { return }
        self.letGo(rival)
        self.rival = nil
    }

    private mutating func refused(_ main: Line, _ event: WireEvent) {
        if event.code == "unknown_session" { self.session = nil }
        self.tellProblem("hello_refused", "The server refused hello.", event)
        self.letGo(main)
        self.declined(main)
        self.lost(.main, .helloRefused, advice: self.backoff.range(event.retryAfter))
    }
}
