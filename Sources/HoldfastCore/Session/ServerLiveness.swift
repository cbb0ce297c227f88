/// Finds out whether a client's transport still carries anything (protocol.md, Heartbeats; RFC 6455 §5.5.2).
///
/// Nothing heard for `interval`: send a Ping with 4 random bytes. The Pong must carry the same 4 bytes within `timeout` of
/// the moment at which the Ping was due, else the transport is dead. A late, wrong or unasked Pong is no answer to it.
public struct ServerLiveness: Sendable {
    public enum Action: Equatable, Sendable {
        case wait
        case sendPing(UInt32)
        case drop
    }

    private struct Ping: Sendable {
        let payload: UInt32
        let sent: Instant
        let deadline: Instant
    }

    private let interval: Span
    private let timeout: Span
    private var lastHeard: Instant
    private var ping: Ping?

    /// - Parameters:
    ///   - interval: silence after which to ask; zero never asks.
    ///   - timeout: how long the answer may take.
    public init(interval: Span, timeout: Span, now: Instant) {
        self.interval = interval
        self.timeout = timeout
        self.lastHeard = now
    }

    /// When to call ``timerFired(now:random:)``; `nil` if never.
    public var deadline: Instant? {
        guard self.interval > .zero else { return nil }
        return self.ping?.deadline ?? self.lastHeard + self.interval
    }

    public mutating func heard(now: Instant) {
        self.lastHeard = now
    }

    /// - Returns: the round-trip time, if this Pong answers the Ping that is out.
    public mutating func receivedPong(_ payload: UInt32?, now: Instant) -> Span? {
        guard let ping = self.ping, payload == ping.payload else { return nil }
        self.ping = nil
        return now - ping.sent
    }

    public mutating func timerFired(now: Instant, random: () -> UInt32) -> Action {
        guard let deadline = self.deadline, now >= deadline else { return .wait }
        if self.ping != nil { return .drop }
        let payload = random()
        self.ping = Ping(payload: payload, sent: now, deadline: deadline + self.timeout)
        // A loop that was held up must not hold its own delay against the client.
        if now > deadline + .seconds(1) { self.ping = Ping(payload: payload, sent: now, deadline: now + self.timeout) }
        return .sendPing(payload)
    }
}
