/// Checks UTF-8 (RFC 3629) a piece at a time, so that a code point may be split between two pieces.
///
/// Overlong forms, surrogates and everything above U+10FFFF are refused at the first byte that makes them certain.
public struct UTF8Validator: Sendable, Equatable {
    /// Continuation bytes still expected.
    private var remaining: UInt8 = 0
    /// Range that the next continuation byte must be in.
    private var lower: UInt8 = 0x80
    private var upper: UInt8 = 0xBF

    public init() {}

    /// Whether no code point is half read.
    public var isAtBoundary: Bool { self.remaining == 0 }

    /// - Returns: `false` as soon as the text cannot be UTF-8 any more.
    public mutating func consume(_ byte: UInt8) -> Bool {
        if self.remaining > 0 {
            guard byte >= self.lower, byte <= self.upper else { return false }
            self.remaining -= 1
            self.lower = 0x80
            self.upper = 0xBF
            return true
        }
        switch byte {
        case 0x00...0x7F: return true
        case 0xC2...0xDF: self.start(1)
        case 0xE0: self.start(2, lower: 0xA0)
        case 0xE1...0xEC, 0xEE...0xEF: self.start(2)
        case 0xED: self.start(2, upper: 0x9F)
        case 0xF0: self.start(3, lower: 0x90)
        case 0xF1...0xF3: self.start(3)
        case 0xF4: self.start(3, upper: 0x8F)
        default: return false
        }
        return true
    }

    private mutating func start(_ remaining: UInt8, lower: UInt8 = 0x80, upper: UInt8 = 0xBF) {
        self.remaining = remaining
        self.lower = lower
        self.upper = upper
    }

    /// Checks a piece of text. - Returns: `false` as soon as the text cannot be UTF-8 any more.
    public mutating func consume(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var index = 0
        let count = bytes.count
        while index < count {
            // Eight ASCII bytes at a time: most JSON is ASCII.
            if self.remaining == 0 {
                while index + 8 <= count,
                    bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self) & 0x8080_8080_8080_8080 == 0
                {
                    index += 8
                }
                if index >= count { break }
            }
            guard self.consume(bytes[index]) else { return false }
            index += 1
        }
        return true
    }
}
