import HoldfastProtocol

/// Events of one session that wait for their transport, in order.
///
/// Holds references to shared events, so a slow consumer costs 8 bytes per waiting event; the limit counts the bytes that
/// it will have to be sent.
public struct SendQueue: Sendable {
    public private(set) var events: [EncodedEvent] = []
    public private(set) var bytes = 0

    public init() {}

    public var isEmpty: Bool { self.events.isEmpty }

    /// - Returns: `false` if what already waits has reached the limit: the consumer is too slow. One event larger than the
    ///   limit still passes when nothing else waits.
    public mutating func append(_ event: EncodedEvent, limit: Int) -> Bool {
        guard self.bytes < limit || self.events.isEmpty else { return false }
        self.events.append(event)
        self.bytes += event.byteCount
        return true
    }

    /// The first events that wait, up to about `bytes` together and at least one, to be written now.
    public mutating func take(atMost bytes: Int) -> [EncodedEvent] {
        guard self.bytes > bytes else {
            let events = self.events
            self.removeAll()
            return events
        }
        var count = 0
        var taken = 0
        while count < self.events.count, count == 0 || taken + self.events[count].byteCount <= bytes {
            taken += self.events[count].byteCount
            count += 1
        }
        let events = Array(self.events[..<count])
        self.events.removeFirst(count)
        self.bytes -= taken
        return events
    }

    public mutating func removeAll() {
        self.events = []
        self.bytes = 0
    }
}
