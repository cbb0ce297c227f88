/// The tries for a line, and which transport has its turn.
extension ConnectionMachine {
    /// A round begins: for a main, or for a rival beside a live main.
    mutating func attempt() {
        self.attemptAt = nil
        if self.main != nil, self.moving == nil { self.counts.races += 1 }
        self.round(self.ladder.start(now: self.now, isSuspect: self.isSuspect))
    }

    /// - Parameter transport: that it starts with.
    mutating func round(_ transport: ClientTransport) {
        self.advice = nil
        if transport == .websocket {
            self.next = self.ladder.fallback(now: self.now) == nil ? nil : .fallback
        } else {
            self.next = self.ladder.isDesperate ? .websocket : nil
        }
        self.open(transport)
    }

    /// - Returns: whether there is another transport to be tried in this round; then it is.
    @discardableResult
    mutating func tryNext() -> Bool {
        guard let next = self.next else { return false }
        self.next = nil
        switch next {
        case .fallback: self.open(self.ladder.fallback(now: self.now) ?? .websocket)
        case .websocket: self.open(.websocket, isDesperate: true)
        }
        return true
    }

    /// The WebSocket that has not answered.
    private var trying: Line? {
        for case let line? in [self.main, self.rival] where line.transport == .websocket && line.phase != .live {
            return line
        }
        return nil
    }

    /// Until when the WebSocket that is tried has to answer, or the fallback gets its turn. Beside a fallback that carries
    /// the session it has all the time of a line.
    var fallbackAt: Instant? {
        guard self.next == .fallback, !self.isCalm else { return nil }
        // Beside a live line the server is there for others. Without one the fallback is a second knock, and takes its turn.
        let turn = self.isLive ? Span.zero : self.backoff.turn
        return self.trying.map { $0.openedAt + max(Self.fallbackAfter, turn) }
    }

    /// The WebSocket whose time for an answer is over.
    var overdue: Line? {
        guard let fallbackAt = self.fallbackAt, self.now >= fallbackAt, !self.isOffline else { return nil }
        return self.trying
    }

    /// The fallback gets its turn.
    /// - Parameter line: the WebSocket that has not answered.
    mutating func fallBack(from line: Line) {
        if line.id == self.rival?.id {
            self.letGo(line)
            self.gone(line)
            self.rival = nil
        } else if line.phase == .opening {
            // Nothing was said on it. If it opens later, it probes.
            self.rival = line
            self.main = nil
        }
        self.tryNext()
    }

    /// The fallback carries the session, and nothing speaks against it.
    var isCalm: Bool {
        self.isLive && self.main?.transport != .websocket && !self.isSuspect && self.moving == nil
    }

    /// What the end of a line says about its transport.
    /// - Parameter isAbnormal: nobody said why.
    mutating func gone(_ line: Line, isAbnormal: Bool = true) {
        switch line.transport {
        case .websocket:
            if line.phase == .live {
                self.ladder.ended(now: self.now, isAbnormal: isAbnormal && self.moving != .goaway)
            } else {
                self.ladder.failed()
            }
            if self.isCalm { self.ladder.works(now: self.now) }
        case .stream where line.phase == .live && self.liveness.suspectAt != nil:
            self.ladder.poll(until: self.now + Self.afterSilentStream)
        case .stream, .poll: break
        }
    }

    /// While the fallback carries the session: when to try a WebSocket beside it. Clients that wait for the same moment do
    /// not try together, for the memory tells each how it went with the one before.
    /// - Parameter stagger: zero where the app wants one now. What has to wait waits with all others.
    mutating func planClimb(within stagger: Span) {
        let isFree = self.isCalm && self.rival == nil && !self.isOffline && self.attemptAt == nil
        let due = isFree ? self.ladder.due : nil
        if due == self.climbDue, stagger > .zero { return }
        self.climbDue = due
        guard let due else {
            self.climbAt = nil
            return
        }
        let range = Span.zero...(due > self.now ? Self.stagger : stagger)
        self.climbAt = max(due, self.now) + self.backoff.draw(from: range)
    }
}
