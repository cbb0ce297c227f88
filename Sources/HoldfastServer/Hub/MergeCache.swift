import HoldfastProtocol
import NIOCore

/// Puts the events that one turn of the loop produced for a session into one buffer, and gives the same buffer to the next
/// session that has the same events. With a thousand subscribers of one topic the copy is made once.
struct MergeCache {
    private var events: [EncodedEvent] = []
    private var buffer = ByteBuffer()

    mutating func merged(_ events: [EncodedEvent]) -> ByteBuffer {
        if events.count == 1 { return events[0].webSocketFrame }
        if self.holds(events) { return self.buffer }
        var buffer = ByteBufferAllocator().buffer(capacity: events.reduce(0) { $0 + $1.byteCount })
        for event in events { buffer.writeImmutableBuffer(event.webSocketFrame) }
        self.events = events
        self.buffer = buffer
        return buffer
    }

    private func holds(_ events: [EncodedEvent]) -> Bool {
        guard events.count == self.events.count else { return false }
        // From the end: sessions with different histories differ there least, but those that joined late differ in count.
        for index in events.indices where events[index] !== self.events[index] { return false }
        return true
    }
}
