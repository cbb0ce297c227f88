import NIOCore

/// Reads an event stream (WHATWG HTML §9.2.6), sans-IO: feed bytes with ``append(_:)``, ask ``next()`` until it answers `nil`.
package struct EventStreamParser {
    package enum Element: Equatable {
        /// A line that begins with a colon. It says that the line lives.
        case comment
        /// `type` is that of the `event` field; empty for a plain message.
        case event(type: String, data: ByteBuffer)
    }

    /// A line, or the data of one event, is longer than may be.
    package struct TooLong: Error, Equatable {
        let limit: Int
    }

    /// Most bytes of one event's data.
    let limit: Int
    private var input = ByteBuffer()
    /// Bytes of ``input`` that hold no line break.
    private var searched = 0
    private var type = ""
    private var data: ByteBuffer?
    private var isAtStart = true
    /// The last line ended in CR, so that an LF behind it belongs to it.
    private var skipsLineFeed = false

    package init(limit: Int) {
        self.limit = limit
    }

    package mutating func append(_ bytes: ByteBuffer) {
        self.input.discardReadBytes()
        self.input.writeImmutableBuffer(bytes)
    }

    package mutating func next() throws(TooLong) -> Element? {
        while let line = try self.readLine() {
            guard !line.isEmpty else {
                let (type, data) = (self.type, self.data)
                self.type = ""
                self.data = nil
                guard let data else { continue }
                return .event(type: type, data: data)
            }
            guard line.first != UInt8(ascii: ":") else { return .comment }
            try self.readField(line)
        }
        return nil
    }

    private mutating func readField(_ line: ByteBufferView) throws(TooLong) {
        let colon = line.firstIndex(of: UInt8(ascii: ":")) ?? line.endIndex
        var value = line[colon...].dropFirst()
        if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
        switch String(decoding: line[..<colon], as: UTF8.self) {
        case "event": self.type = String(decoding: value, as: UTF8.self)
        case "data":
            let isFirst = self.data == nil
            var data = self.data ?? ByteBuffer()
            // Held once, or each line would copy those before it.
            self.data = nil
            if !isFirst { data.writeInteger(UInt8(ascii: "\n")) }
            guard data.readableBytes + value.count <= self.limit else { throw TooLong(limit: self.limit) }
            data.writeBytes(value)
            self.data = data
        default: break  // `id` and `retry` mean nothing here.
        }
    }

    /// The field's name comes on top of its value.
    private func check(_ line: Int) throws(TooLong) {
        guard line <= self.limit + 16 else { throw TooLong(limit: self.limit) }
    }

    private mutating func readLine() throws(TooLong) -> ByteBufferView? {
        if self.skipsLineFeed, let next = self.input.getInteger(at: self.input.readerIndex, as: UInt8.self) {
            self.skipsLineFeed = false
            if next == UInt8(ascii: "\n") { self.input.moveReaderIndex(forwardBy: 1) }
        }
        let view = self.input.readableBytesView
        let isBreak = { (byte: UInt8) in byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") }
        guard let end = view.dropFirst(self.searched).firstIndex(where: isBreak) else {
            self.searched = view.count
            try self.check(view.count)
            return nil
        }
        // Also of a line that is all there, so that the answer does not depend on how the bytes are cut.
        try self.check(end - view.startIndex)
        self.searched = 0
        self.skipsLineFeed = view[end] == UInt8(ascii: "\r")
        var line = view[..<end]
        self.input.moveReaderIndex(to: end + 1)
        if self.isAtStart {
            self.isAtStart = false
            if line.starts(with: [0xEF, 0xBB, 0xBF]) { line = line.dropFirst(3) }
        }
        return line
    }
}
