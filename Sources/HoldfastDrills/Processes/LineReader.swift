/// Cuts a stream of bytes into lines, and does not keep more than one line's worth.
struct LineReader {
    /// In bytes, without the newline.
    static let limit = 1 << 20

    enum Line: Equatable {
        case text(String)
        /// Beyond the limit; its bytes are gone.
        case tooLong(bytes: Int)
    }

    private let limit: Int
    private var held: [UInt8] = []
    /// Of a line that is too long already.
    private var skipped = 0

    init(limit: Int = LineReader.limit) {
        self.limit = limit
    }

    mutating func read(_ bytes: some Sequence<UInt8>) -> [Line] {
        var lines: [Line] = []
        for byte in bytes {
            if byte == UInt8(ascii: "\n") {
                lines.append(self.end())
            } else if self.skipped > 0 {
                self.skipped += 1
            } else if self.held.count == self.limit {
                self.skipped = self.limit + 1
                self.held = []
            } else {
                self.held.append(byte)
            }
        }
        return lines
    }

    private mutating func end() -> Line {
        defer {
            self.held = []
            self.skipped = 0
        }
        return self.skipped > 0 ? .tooLong(bytes: self.skipped) : .text(String(decoding: self.held, as: UTF8.self))
    }
}
