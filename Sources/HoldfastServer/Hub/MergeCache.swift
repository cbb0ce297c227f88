import HoldfastProtocol
import NIOCore

/// Puts the events that one turn of the loop produced for a session into one buffer, and gives the same buffer to the next
/// session that has the same events. With a thousand subscribers of one topic the copy is made once.
struct MergeCache {
    private var events: [EncodedEvent] = []
    private var buffer = ByteBuffer()

    /// The first `count` of `events`, at least one, as one buffer.
    mutating func merged(_ events: [EncodedEvent], first count: Int) -> ByteBuffer {
        if count == 1 { return events[0].webSocketFrame }
        if self.holds(events, count) { return self.buffer }
        var buffer = ByteBufferAllocator().buffer(capacity: events[..<count].reduce(0) { $0 + $1.byteCount })
        for event in events[..<count] { buffer.writeImmutableBuffer(event.webSocketFrame) }
        self.events = Array(events[..<count])
        self.buffer = buffer
        return buffer
    }

    private func holds(_ events: [EncodedEvent], _ count: Int) -> Bool {
        guard count == self.events.count else { return false }
        for index in 0..<count where events[index] !== self.events[index] { return false }
        return true
    }
}
