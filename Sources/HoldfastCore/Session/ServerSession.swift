import HoldfastProtocol

/// The gateway's side of one session: counts, what to repeat, and how long to wait for a client that is away.
///
/// Sans-IO: it is told what happened and when, and answers what to do. A plain session never waits: it ends with its
/// transport.
public struct ServerSession: Sendable {
    public enum State: Sendable, Equatable {
        /// A transport carries the session.
        case attached
        /// No transport; ends at `until` unless the client resumes.
        case waiting(until: Instant)
        case ended
    }

    public enum DetachAction: Equatable, Sendable {
        case wait(until: Instant)
        case end
    }

    public let dialect: Dialect
    public private(set) var state = State.attached
    /// How many counted events the client has sent.
    public private(set) var received: UInt64 = 0
    /// How many of those the client knows to have arrived.
    private var told: UInt64 = 0
    public var outbox = Outbox()
    public private(set) var resumes = 0

    /// An `ack` goes out after this many events that the client was not told about otherwise.
    public static let ackEvery: UInt64 = 64

    public init(dialect: Dialect) {
        self.dialect = dialect
    }

    /// One counted event has come. - Returns: whether an `ack` is due.
    public mutating func countReceived() -> Bool {
        self.received += 1
        return self.dialect == .native && self.received - self.told >= Self.ackEvery
    }

    /// The count is being written to the client. - Returns: the count.
    public mutating func tellReceived() -> UInt64 {
        self.told = self.received
        return self.received
    }

    /// The transport is gone.
    public mutating func detach(now: Instant, ttl: Span) -> DetachAction {
        guard self.dialect == .native, self.state != .ended, ttl > .zero else {
            self.state = .ended
            return .end
        }
        let until = now + ttl
        self.state = .waiting(until: until)
        return .wait(until: until)
    }

    /// A client wants to go on.
    /// - Parameter received: how many events it has had.
    /// - Returns: what to repeat; `nil` if that count cannot be, whereupon the session has ended.
    public mutating func resume(received: UInt64) -> [EncodedEvent]? {
        guard self.state != .ended else { return nil }
        guard let events = self.outbox.resume(after: received) else {
            self.state = .ended
            return nil
        }
        self.state = .attached
        self.resumes += 1
        return events
    }

    public mutating func end() {
        self.state = .ended
    }
}
