import HoldfastProtocol

/// The one timer and what it drives.
extension ConnectionMachine {
    mutating func timer() {
        let isLate = self.timerAt.map { self.now - $0 > self.liveness.interval } ?? false
        self.timerAt = nil
        // The machine slept: whatever was due is judged from now on. Only once, since a hidden page's timers are always late.
        let hasWoken = isLate && !self.isForgiven
        if hasWoken {
            self.isForgiven = true
            self.pongBy = nil
            self.climbDue = nil
            self.climbAt = nil
            if self.main?.wordBy != nil { self.main?.wordBy = self.now + Self.firstWord }
            self.doubt(.lateTimer)
        }
        let (expiredRival, expiredMain) = (self.expired(self.rival), self.expired(self.main))
        if let rival = expiredRival {
            self.letGo(rival)
            self.lost(.rival, .connectTimeout)
        }
        if let main = expiredMain {
            self.letGo(main)
            self.lost(.main, .connectTimeout)
        }
        if let line = self.overdue { self.fallBack(from: line) }
        if let main = self.main, main.phase == .live { self.heartbeatDue(main) }
        if let attemptAt = self.attemptAt, self.now >= attemptAt, !self.isOffline { self.attempt() }
        self.planClimb(within: Self.stagger)
        if let climbAt = self.climbAt, self.now >= climbAt { self.round(.websocket) }
        if let livedAt = self.ladder.livedAt, self.now >= livedAt { self.ladder.lived() }
        if hasWoken { self.hasten(.lateTimer) }
    }

    /// - Returns: the line, if it has owed an answer for too long.
    private func expired(_ line: Line?) -> Line? {
        guard let line, line.phase != .live, self.now >= line.phaseAt + self.options.connectTimeout else { return nil }
        return line
    }

    private mutating func heartbeatDue(_ main: Line) {
        if !self.isOffline {
            if let wordBy = main.wordBy, self.now >= wordBy { self.missFirstWord() }
            switch self.liveness.due(now: self.now) {
            case .nothing: break
            case .ping: self.sendPing()
            case .suspect: self.race()
            case .dead:
                self.letGo(main)
                return self.lost(.main, .dead)
            }
            if let countAt = self.countAt, self.now >= countAt {
                // A line that owes an answer has been asked for it, and must not get its time anew.
                if self.liveness.askedAt == nil { self.sendPing() } else { self.wantCount() }
            }
            if let pongBy = self.pongBy, self.now >= pongBy { self.deaf() }
        }
        if let ackAt = self.ackAt, self.now >= ackAt { self.sendAck() }
    }

    /// Main is suspect.
    private mutating func race() {
        if self.wasUseful { self.backoff.failures = 0 }
        guard self.rival == nil else { return }
        let at = self.now + self.backoff.delay(suspected: true, isHidden: self.liveness.isHidden)
        self.attemptAt = max(at, self.raceNotBefore)
    }

    /// Events come and no pong: the server does not hear us. Go elsewhere, and take what still comes until then.
    private mutating func deaf() {
        self.pongBy = nil
        guard self.rival == nil else { return }
        self.moving = .deaf
        self.attemptAt = self.now
    }

    mutating func sendPing(inDoubt: Bool = false) {
        guard let main = self.main else { return }
        self.pings += 1
        let ping = Ping(data: String(self.pings), at: self.now)
        self.ping = ping
        self.pongBy = self.pongBy ?? self.now + self.liveness.timeout * 3
        let slack = Self.uplinkStep * Int64(self.outbox.unacknowledgedBytes / Self.uplinkStepBytes)
        self.liveness.asked(now: self.now, wait: self.roundTrip.wait + slack, inDoubt: inDoubt)
        let received = self.received
        self.send(on: main) { json in
            json.member("event", "ping")
            json.member("data", ping.data)
            json.member("received", received)
        }
        self.told()
        self.wantCount()
    }

    mutating func sendAck() {
        guard let main = self.main else { return }
        let received = self.received
        self.send(on: main) { json in
            json.member("event", "ack")
            json.member("received", received)
        }
        self.told()
    }

    /// The server has (or will have) our count.
    mutating func told() {
        self.acknowledged = self.received
        self.unacknowledgedBytes = 0
        self.ackAt = nil
    }

    /// Sets the one timer. It is moved only to an earlier time: when it fires and nothing is due, it is set anew. So the
    /// flow of messages, each of which postpones the next ping, does not set a timer each.
    mutating func arm() {
        let due = self.nextDue
        if let due {
            if let timerAt = self.timerAt, timerAt <= due { return }
        } else if self.timerAt == nil {
            return
        }
        self.timerAt = due
        self.act(.timer(at: due))
    }

    private var nextDue: Instant? {
        var due: Instant?
        for case let line? in [self.main, self.rival] where line.phase != .live {
            due = Self.earlier(due, line.phaseAt + self.options.connectTimeout)
        }
        if let main = self.main, main.phase == .live {
            if !self.isOffline {
                due = Self.earlier(due, self.liveness.deadline)
                due = Self.earlier(due, self.countAt)
                due = Self.earlier(due, self.pongBy)
                due = Self.earlier(due, main.wordBy)
            }
            due = Self.earlier(due, self.ackAt)
            due = Self.earlier(due, self.climbAt)
            due = Self.earlier(due, self.ladder.livedAt)
        }
        if self.isOffline { return due }
        return Self.earlier(Self.earlier(due, self.attemptAt), self.fallbackAt)
    }

    private static func earlier(_ left: Instant?, _ right: Instant?) -> Instant? {
        guard let left, let right else { return left ?? right }
        return min(left, right)
    }
}
