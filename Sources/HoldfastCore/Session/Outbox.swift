import DequeModule
import HoldfastProtocol

/// What one side of a session has sent and the other has not acknowledged (protocol.md, Counting; XEP-0198).
///
/// Events are counted, not numbered. The outbox is bounded in bytes, events and age: beyond a bound it forgets the oldest
/// events, and a client that needs them gets a new session and recovers by position. The newest event is always kept,
/// even if it alone is larger than the limit.
public struct Outbox: Sendable {
    public struct Limits: Sendable, Equatable {
        public var bytes: Int
        public var events: Int
        public var age: Span

        public init(bytes: Int = 1 << 20, events: Int = 10_000, age: Span = .seconds(300)) {
            self.bytes = bytes
            self.events = events
            self.age = age
        }
    }

    private struct Kept: Sendable {
        let event: EncodedEvent
        let at: Instant
    }

    private var kept = Deque<Kept>()
    public private(set) var keptBytes = 0
    /// How many counted events were sent in this session.
    public private(set) var sent: UInt64 = 0
    /// How many of those the other side has acknowledged.
    public private(set) var acknowledged: UInt64 = 0
    /// How many were forgotten because of a limit.
    public private(set) var forgotten: UInt64 = 0

    public init() {}

    public var keptEvents: Int { self.kept.count }

    /// The last count that can no longer be resumed after: events up to here are gone.
    private var gone: UInt64 { self.sent - UInt64(self.kept.count) }

    public mutating func append(_ event: EncodedEvent, now: Instant, limits: Limits) {
        self.kept.append(Kept(event: event, at: now))
        self.keptBytes += event.byteCount
        self.sent += 1
        while self.kept.count > 1, self.keptBytes > limits.bytes || self.kept.count > limits.events {
            self.forgetOldest()
        }
    }

    private mutating func forgetOldest() {
        let oldest = self.kept.removeFirst()
        self.keptBytes -= oldest.event.byteCount
        self.forgotten += 1
    }

    /// Forgets what is older than the age limit.
    public mutating func expire(now: Instant, limits: Limits) {
        while let oldest = self.kept.first, oldest.at + limits.age < now { self.forgetOldest() }
    }

    /// The other side has had `received` events.
    /// - Returns: `false` if that cannot be, since fewer were sent. A count below an earlier one is old news and changes nothing.
    public mutating func acknowledge(_ received: UInt64) -> Bool {
        guard received <= self.sent else { return false }
        guard received > self.acknowledged else { return true }
        self.acknowledged = received
        let known = self.gone
        guard received > known else { return true }
        for _ in 0..<(received - known) {
            self.keptBytes -= self.kept.removeFirst().event.byteCount
        }
        // An idle session keeps no memory for events.
        if self.kept.isEmpty { self.kept = Deque() }
        return true
    }

    /// What has to be repeated to a side that has had `received` events.
    /// - Returns: `nil` if `received` cannot be: beyond what was sent, or before what is kept.
    public mutating func resume(after received: UInt64) -> [EncodedEvent]? {
        guard received >= self.gone, self.acknowledge(received) else { return nil }
        #if HOLDFAST_CANARY
        // The mistake that the simulation is there to find: one event too few.
        return self.kept.dropFirst().map(\.event)
        #else
        return self.kept.map(\.event)
        #endif
    }
}
