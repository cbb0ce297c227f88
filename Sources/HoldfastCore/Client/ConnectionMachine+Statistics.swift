extension ConnectionMachine {
    /// Figures of this moment.
    public struct Statistics: Sendable, Equatable {
        public let state: ConnectionState
        public let counts: Counts
        /// The session's public part; the secret is shown nowhere.
        public let sessionHandle: String?
        /// Counted events of the server in this session.
        public let received: UInt64
        /// Counted events of ours in this session.
        public let sent: UInt64
        public let unacknowledged: Int
        public let unanswered: Int
        public let queuedBytes: Int
        public let roundTrip: Span?
        public let spread: Span
        public let isSuspect: Bool
        /// Of the line that carries the session; `nil` while there is none.
        public let transport: ClientTransport?
        public let webSocket: WebSocketStanding
        /// The end of the verdict that WebSockets do not get through; `nil` if there is none.
        public let blockedUntil: Instant?
    }

    public var statistics: Statistics {
        let transport = self.liveTransport
        let works = transport == .websocket
        return Statistics(
            state: self.state,
            counts: self.counts,
            sessionHandle: self.session.map { String($0.prefix { $0 != "." }) },
            received: self.received,
            sent: self.outbox.posted,
            unacknowledged: self.outbox.unacknowledgedCount,
            unanswered: self.outbox.unansweredCount,
            queuedBytes: self.outbox.bytes,
            roundTrip: self.roundTrip.estimate,
            spread: self.backoff.spread,
            isSuspect: self.isSuspect,
            transport: transport,
            webSocket: works ? .works : self.ladder.verdict(now: self.now),
            blockedUntil: works ? nil : self.ladder.blockedUntil(now: self.now)
        )
    }

    /// Whether the line that carries the session has not answered in time.
    public var isSuspect: Bool { self.isLive && self.liveness.suspectAt != nil }

    /// The line that carries the session.
    public var liveLine: Int? { self.isLive ? self.main?.id : nil }

    /// What that line is.
    public var liveTransport: ClientTransport? { self.isLive ? self.main?.transport : nil }
}
