import HoldfastProtocol

/// The end of a line, and of the connection.
extension ConnectionMachine {
    mutating func closed(_ id: Int, code: CloseCode, reason: String, retryAfter: RetryAfter?) {
        guard let role = self.role(of: id), let line = self.line(role) else { return }
        let advice = self.backoff.range(retryAfter)
        guard let objections = role == .main ? self.judge(code, reason) : 0 else { return }
        self.haunt(line)
        let hasSpoken = code.rawValue >= 4000 && code != .heartbeatTimeout
        if hasSpoken, line.phase != .live { self.declined(line) }
        let isAbnormal = !hasSpoken && code != .normal && code != .goingAway
        self.lost(role, .lineClosed, advice: advice, objections: objections, isAbnormal: isAbnormal)
    }

    /// The server itself does not want us, so it is no use to come by another transport.
    mutating func declined(_ line: Line) {
        self.next = nil
        if line.transport == .websocket { self.ladder.passed() }
    }

    /// What the close code of main asks for, but for a new line (protocol.md, Close codes).
    /// - Returns: how many failures it counts for at least; `nil` if no new line is wanted.
    private mutating func judge(_ code: CloseCode, _ reason: String) -> Int? {
        switch code {
        case .messageTooBig:
            // The same message would close every further line too.
            if let message = self.outbox.removeBiggestMessage() {
                self.fail(
                    message, code: "too_big", "The server does not take a message of \(message.bytes) bytes.",
                    actual: message.bytes
                )
            }
            self.tellProtocolError(code, reason)
            return 1
        case .protocolError, .unsupportedData, .invalidPayload:
            self.tellProtocolError(code, reason)
            return 1
        case .sessionReplaced:
            guard self.ghosts > 0 else {
                return self.end(.replaced, "The session was taken over by another connection.", code, reason)
            }
            self.ghosts -= 1
        case .authenticationExpired:
            guard self.options.hasCredentials, !self.hasRefreshed || self.wasUseful else {
                return self.end(.authenticationExpired, "The authentication has expired.", code, reason)
            }
            self.hasRefreshed = true
            self.mustReauthenticate = true
        case .forbidden:
            return self.end(.forbidden, "The server forbids this connection.", code, reason)
        case .slowConsumer:
            // We were too slow and the server has dropped it: recover by position.
            self.session = nil
        case .rateLimited:
            // Not even the first attempt may be as soon as after a good line.
            return 1
        default:
            // Close codes are an open set: every other only ends the line.
            break
        }
        return 0
    }

    private mutating func tellProtocolError(_ code: CloseCode, _ reason: String) {
        let text = "The server ended the line because of a protocol error."
        self.tell(.problem(Self.problem("protocol_error", text, code, reason)))
    }

    private mutating func end(_ why: ConnectionReason, _ text: String, _ code: CloseCode, _ reason: String) -> Int? {
        self.main = nil  // It is closed already.
        self.stop(why, Self.problem(why.rawValue, text, code, reason))
        return nil
    }

    private static func problem(_ name: String, _ text: String, _ code: CloseCode, _ reason: String)
        -> ConnectionProblem
    {
        ConnectionProblem(code: name, text: reason.isEmpty ? text : "\(text) (\(reason))", closeCode: code)
    }

    /// Ends the connection. Subscriptions stay, in case the app connects again.
    mutating func stop(_ reason: ConnectionReason, _ problem: ConnectionProblem? = nil) {
        guard self.state != .closed else { return }
        if let rival = self.rival { self.letGo(rival, code: .normal) }
        if let main = self.main { self.letGo(main, code: .normal) }
        self.main = nil
        self.rival = nil
        self.session = nil
        self.attemptAt = nil
        self.moving = nil
        self.attemptNotBefore = Instant(microseconds: 0)
        self.ghosts = 0
        self.ladder.left()
        if let problem { self.tell(.problem(problem)) }
        self.become(.closed, reason)
        for message in self.withdraw() {
            self.forget(message)
            self.fail(message, code: "closed", "The connection was closed before the reply.")
        }
        for name in self.topics.keys { self.topics[name]?.isActive = false }
    }

    var isLive: Bool { self.main?.phase == .live }

    var wasUseful: Bool { self.isLive && self.now - self.liveAt >= Self.usefulAfter }

    /// A line is gone: go on with the other one, or with the other transport, or try again.
    /// - Parameters:
    ///   - objections: how many failures it counts for at least.
    ///   - isAbnormal: nobody said why.
    mutating func lost(
        _ role: Role,
        _ reason: ConnectionReason,
        advice: ClosedRange<Span>? = nil,
        objections: Int = 0,
        isAbnormal: Bool = true
    ) {
        guard let line = self.line(role) else { return }
        var advice = advice
        if line.phase != .live {
            advice = advice ?? self.advice
            self.advice = advice
        }
        switch role {
        case .rival: self.lostRival(line, advice: advice)
        case .main: self.lostMain(line, reason, advice: advice, objections: objections, isAbnormal: isAbnormal)
        }
    }

    private mutating func lostRival(_ rival: Line, advice: ClosedRange<Span>?) {
        self.rival = nil
        self.gone(rival)
        // Main is well, or it is still being tried.
        if self.isCalm || !self.isLive || self.tryNext() { return }
        self.ladder.away()
        self.backoff.failures += 1
        self.schedule(suspected: false, advice: advice, spent: self.now - rival.openedAt)
    }

    private mutating func lostMain(
        _ line: Line,
        _ reason: ConnectionReason,
        advice: ClosedRange<Span>?,
        objections: Int,
        isAbnormal: Bool
    ) {
        let (wasLive, wasUseful) = (line.phase == .live, self.wasUseful)
        self.gone(line, isAbnormal: isAbnormal)
        self.main = self.rival
        self.rival = nil
        // The round goes on.
        if !wasLive, self.main != nil || self.tryNext() { return }
        if !wasLive || (line.transport != .websocket && !line.hasSpoken) { self.ladder.away() }
        // A dead line was suspect before: the failures are those of that race.
        if reason != .dead { self.backoff.failures = wasUseful ? objections : self.backoff.failures + 1 }
        let wasMoving = self.moving != nil
        self.moving = nil
        if self.main != nil { return self.become(.reconnecting, reason) }
        let failures = self.backoff.failures
        if let most = self.options.maxAttempts, failures >= most {
            let text = "No useful connection in \(failures) attempts."
            return self.stop(.maxAttempts, ConnectionProblem(code: "max_attempts", text: text))
        }
        // A goaway has told us when to come; a race that failed has its next attempt waiting.
        let isPlanned = wasMoving || (reason == .dead && failures > 0)
        if advice != nil || !isPlanned || self.attemptAt == nil {
            // Where the server has answered, it is not away.
            let hasAnswered = wasLive || reason == .helloRefused || reason == .badCount
            let spent = hasAnswered ? nil : self.now - line.openedAt
            self.schedule(suspected: reason == .dead, advice: advice, spent: spent)
        }
        self.awaitAttempt(reason)
    }

    private mutating func schedule(suspected: Bool, advice: ClosedRange<Span>?, spent: Span?) {
        let isHidden = self.liveness.isHidden
        let delay = self.backoff.delay(suspected: suspected, isHidden: isHidden, advice: advice, spent: spent)
        let at = self.now + delay
        self.attemptAt = at
        if advice != nil { self.attemptNotBefore = at }
    }

    /// Waits for `attemptAt`, which may be now.
    mutating func awaitAttempt(_ reason: ConnectionReason) {
        guard let attemptAt = self.attemptAt else { return }
        if self.isOffline { return self.become(.suspended, .offline) }
        self.become(.reconnecting, reason)
        if attemptAt <= self.now { self.attempt() }
    }
}
