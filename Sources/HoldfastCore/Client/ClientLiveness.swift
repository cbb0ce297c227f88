/// Whether the line lives: quiet → ping → suspect → dead (client.md, Liveness). Anything heard starts over.
struct ClientLiveness {
    enum Due: Equatable {
        case nothing
        case ping
        /// No answer within the wait: open another line beside this one.
        case suspect
        /// No word from a suspect line for ``timeout``: let it go.
        case dead
    }

    /// Silence after which to ask while somebody looks.
    var visibleInterval = Span.seconds(4)
    var hiddenInterval = Span.seconds(25)
    var isHidden = false
    var timeout = Span.seconds(5)
    /// Of the transport: how much longer it may be quiet.
    var slack = Span.zero
    private var heardAt = Instant(microseconds: 0)
    private var wait = Span.zero
    /// A ping is out and nothing was heard since.
    private(set) var askedAt: Instant?
    /// It was sent in doubt.
    private(set) var isDoubted = false
    private(set) var suspectAt: Instant?

    /// Silence after which to ask.
    var interval: Span { self.isHidden ? self.hiddenInterval : self.visibleInterval }

    /// - Parameter isAnswer: to our last ping.
    /// - Returns: whether the line was suspect until now.
    mutating func heard(now: Instant, isAnswer: Bool = false) -> Bool {
        let wasSuspect = self.suspectAt != nil
        self.heardAt = now
        // In doubt only the answer is proof: what else comes may have been on its way, or in a buffer while we slept.
        if self.isDoubted, !wasSuspect, !isAnswer { return false }
        self.isDoubted = false
        self.askedAt = nil
        self.suspectAt = nil
        return wasSuspect
    }

    /// A ping was sent, whose answer may take `wait`.
    mutating func asked(now: Instant, wait: Span, inDoubt: Bool) {
        self.askedAt = now
        self.wait = wait
        self.isDoubted = inDoubt
        // A suspect line gets its whole time again: a computer that wakes up must not throw a good line away.
        if self.suspectAt != nil { self.suspectAt = now }
    }

    /// When ``due(now:)`` has something to say, if nothing is heard until then.
    var deadline: Instant {
        if let suspectAt = self.suspectAt { return suspectAt + self.timeout }
        if let askedAt = self.askedAt { return askedAt + self.wait }
        return self.heardAt + self.interval + self.slack
    }

    mutating func due(now: Instant) -> Due {
        guard now >= self.deadline else { return .nothing }
        if self.suspectAt != nil { return .dead }
        if self.askedAt == nil { return .ping }
        self.suspectAt = now
        return .suspect
    }
}
