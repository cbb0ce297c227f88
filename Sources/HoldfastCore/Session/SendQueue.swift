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

    /// How many of the first events have about `bytes` together: at least one, if any wait.
    public func count(atMost bytes: Int) -> Int {
        guard self.bytes > bytes else { return self.events.count }
        var count = 0
        var sum = 0
        while count < self.events.count, count == 0 || sum + self.events[count].byteCount <= bytes {
            sum += self.events[count].byteCount
            count += 1
        }
        return count
    }

    /// The first `count` events have been written.
    public mutating func removeFirst(_ count: Int) {
        if count == self.events.count {
            // A small buffer stays for the next turn; after a burst the memory goes back.
            self.events.removeAll(keepingCapacity: count <= 16)
            self.bytes = 0
        } else {
            for event in self.events[..<count] { self.bytes -= event.byteCount }
            self.events.removeFirst(count)
        }
    }

    public mutating func removeAll() {
        self.events = []
        self.bytes = 0
    }
}
