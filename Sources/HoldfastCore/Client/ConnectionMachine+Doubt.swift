import HoldfastProtocol

/// What the world around says, and what it makes us doubt.
extension ConnectionMachine {
    mutating func hide() {
        self.liveness.isHidden = true
    }

    mutating func show() {
        self.liveness.isHidden = false
        self.doubt(.shown)
    }

    /// Keeps the line and stops the attempts.
    mutating func goOffline() {
        self.isOffline = true
        if self.main == nil, self.state == .reconnecting { self.become(.suspended, .offline) }
    }

    mutating func goOnline() {
        if self.isOffline { self.ladder.ask(now: self.now) }
        self.isOffline = false
        self.doubt(.online)
    }

    mutating func networkChanged() {
        self.ladder.ask(now: self.now)
        self.doubt(.doubt)
    }

    /// The app wants a WebSocket, and at once.
    mutating func probe() {
        self.ladder.ask(now: self.now)
        self.planClimb(within: .zero)
    }

    /// Ask now. A good line answers and nothing more happens.
    mutating func doubt(_ reason: ConnectionReason) {
        guard !self.isOffline else { return }
        guard let main = self.main else { return self.hasten(reason) }
        if main.phase == .live {
            if let askedAt = self.liveness.askedAt, self.liveness.isDoubted, self.now - askedAt < Self.staleAsk {
                return
            }
            self.sendPing(inDoubt: true)
        } else if self.now - main.phaseAt >= Self.staleAttempt {
            for case let line? in [self.rival, self.main] {
                self.letGo(line)
                self.gone(line)
            }
            self.main = nil
            self.rival = nil
            self.attemptAt = self.now
            self.hasten(reason)
        }
    }

    /// Without a line: do not wait any longer than the server's advice demands.
    mutating func hasten(_ reason: ConnectionReason) {
        guard self.main == nil, !self.isOffline, let attemptAt = self.attemptAt else { return }
        let at = max(self.now, self.attemptNotBefore)
        if at == attemptAt, self.state == .reconnecting { return }
        self.attemptAt = at
        self.awaitAttempt(reason)
    }
}
