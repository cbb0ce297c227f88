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
    }

    public var statistics: Statistics {
        Statistics(
            state: self.state,
            counts: self.counts,
            sessionHandle: self.session.map { String($0.prefix { $0 != "." }) },
            received: self.received,
            sent: self.outbox.acknowledged + UInt64(self.outbox.unacknowledgedCount),
            unacknowledged: self.outbox.unacknowledgedCount,
            unanswered: self.outbox.unansweredCount,
            queuedBytes: self.outbox.bytes,
            roundTrip: self.roundTrip.estimate,
            spread: self.backoff.spread,
            isSuspect: self.isSuspect
        )
    }

    /// Whether the line that carries the session has not answered in time.
    public var isSuspect: Bool { self.main?.phase == .live && self.liveness.suspectAt != nil }

    /// The line that carries the session.
    public var liveLine: Int? { self.main?.phase == .live ? self.main?.id : nil }
}
