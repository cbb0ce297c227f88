import HoldfastProtocol
import NIOCore

/// Puts the events that one turn of the loop produced for a session into one buffer, and gives the same buffer to the next
/// session that has the same events on the same kind of transport. With a thousand subscribers of one topic the copy is
/// made once.
struct MergeCache {
    private struct Merged {
        var events: [EncodedEvent] = []
        var buffer = ByteBuffer()

        func holds(_ events: [EncodedEvent], _ count: Int) -> Bool {
            guard count == self.events.count else { return false }
            for index in 0..<count where events[index] !== self.events[index] { return false }
            return true
        }
    }

    private var frames = Merged()
    private var stream = Merged()
    private var array = Merged()

    /// The first `count` of `events`, at least one, as WebSocket frames.
    mutating func frames(_ events: [EncodedEvent], first count: Int) -> ByteBuffer {
        if count == 1 { return events[0].webSocketFrame }
        return Self.merge(events, count, &self.frames) { buffer, event in
            buffer.writeImmutableBuffer(event.webSocketFrame)
        }
    }

    /// As an event stream's text (WHATWG HTML §9.2): one `data:` line and one empty line each.
    mutating func stream(_ events: [EncodedEvent], first count: Int) -> ByteBuffer {
        Self.merge(events, count, &self.stream) { buffer, event in
            buffer.writeString("data: ")
            buffer.writeOnOneLine(event.json)
            buffer.writeString("\n\n")
        }
    }

    /// As the elements of a JSON array, without its brackets.
    mutating func array(_ events: [EncodedEvent], first count: Int) -> ByteBuffer {
        Self.merge(events, count, &self.array) { buffer, event in
            if buffer.readableBytes > 0 { buffer.writeInteger(UInt8(ascii: ",")) }
            buffer.writeImmutableBuffer(event.json)
        }
    }

    private static func merge(
        _ events: [EncodedEvent],
        _ count: Int,
        _ merged: inout Merged,
        write: (inout ByteBuffer, EncodedEvent) -> Void
    ) -> ByteBuffer {
        if merged.holds(events, count) { return merged.buffer }
        // Framing takes at most 8 bytes more than that of a WebSocket, which has 2 at least.
        let capacity = events[..<count].reduce(0) { $0 + $1.byteCount + 6 }
        var buffer = ByteBufferAllocator().buffer(capacity: capacity)
        for event in events[..<count] { write(&buffer, event) }
        merged.events = Array(events[..<count])
        merged.buffer = buffer
        return buffer
    }
}

extension ByteBuffer {
    /// JSON with blanks in place of line breaks, which end a line of an event stream. In JSON they stand between tokens only,
    /// where they mean nothing; inside strings they are escaped.
    fileprivate mutating func writeOnOneLine(_ json: ByteBuffer) {
        let start = self.writerIndex
        self.writeImmutableBuffer(json)
        let view = self.viewBytes(at: start, length: json.readableBytes)
        guard let view, view.contains(where: { $0 == 0x0A || $0 == 0x0D }) else { return }
        for index in start..<self.writerIndex {
            let byte = self.getInteger(at: index, as: UInt8.self)
            if byte == 0x0A || byte == 0x0D { self.setInteger(UInt8(ascii: " "), at: index) }
        }
    }
}
