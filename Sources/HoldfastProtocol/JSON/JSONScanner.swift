/// Checks JSON text (RFC 8259) without building anything from it.
///
/// The scanner only moves over bytes and says where values start and end, so that a payload can be handed on byte for
/// byte. It does not recurse: nesting is a counter and a stack of bits, hence deep input costs no stack.
struct JSONScanner {
    private let bytes: UnsafeRawBufferPointer
    private let limits: JSONLimits
    private(set) var index = 0

    init(_ bytes: UnsafeRawBufferPointer, limits: JSONLimits) {
        self.bytes = bytes
        self.limits = limits
    }

    var isAtEnd: Bool { self.index >= self.bytes.count }

    var peek: UInt8? { self.index < self.bytes.count ? self.bytes[self.index] : nil }

    mutating func skipWhitespace() {
        while self.index < self.bytes.count {
            switch self.bytes[self.index] {
            case 0x20, 0x0A, 0x0D, 0x09: self.index += 1
            default: return
            }
        }
    }

    mutating func expect(_ byte: UInt8) throws(JSONError) {
        guard let next = self.peek else { throw JSONError(.unexpectedEnd, at: self.index) }
        guard next == byte else { throw JSONError(.unexpectedByte(next), at: self.index) }
        self.index += 1
    }

    /// Moves over one value, which starts at the current byte. `depth` is the nesting that the value stands in.
    /// - Returns: what kind of value it was.
    mutating func skipValue(depth: Int) throws(JSONError) -> JSONValue.Kind {
        guard let first = self.peek else { throw JSONError(.unexpectedEnd, at: self.index) }
        switch first {
        case UInt8(ascii: "\""):
            try self.skipString()
            return .string
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            try self.skipContainer(depth: depth)
            return first == UInt8(ascii: "{") ? .object : .array
        case UInt8(ascii: "t"):
            try self.skipLiteral("true")
            return .boolean
        case UInt8(ascii: "f"):
            try self.skipLiteral("false")
            return .boolean
        case UInt8(ascii: "n"):
            try self.skipLiteral("null")
            return .null
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
            try self.skipNumber()
            return .number
        default:
            throw JSONError(.unexpectedByte(first), at: self.index)
        }
    }

    private mutating func skipContainer(depth outer: Int) throws(JSONError) {
        var open = BitStack()
        // What the grammar allows next inside the innermost container.
        enum Next { case valueOrEnd, value, commaOrEnd }
        var next = Next.valueOrEnd

        func enter(_ isObject: Bool, _ index: Int) throws(JSONError) {
            guard outer + open.count < self.limits.depth else {
                throw JSONError(.tooDeep(limit: self.limits.depth), at: index)
            }
            open.push(isObject)
        }

        try enter(self.bytes[self.index] == UInt8(ascii: "{"), self.index)
        self.index += 1
        while open.count > 0 {
            self.skipWhitespace()
            guard let byte = self.peek else { throw JSONError(.unexpectedEnd, at: self.index) }
            let isObject = open.top
            let end = isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")
            switch next {
            case .valueOrEnd where byte == end, .commaOrEnd where byte == end:
                self.index += 1
                open.pop()
                next = .commaOrEnd
            case .commaOrEnd:
                try self.expect(UInt8(ascii: ","))
                next = .value
            case .valueOrEnd, .value:
                if isObject {
                    guard byte == UInt8(ascii: "\"") else { throw JSONError(.unexpectedByte(byte), at: self.index) }
                    try self.skipString()
                    self.skipWhitespace()
                    try self.expect(UInt8(ascii: ":"))
                    self.skipWhitespace()
                }
                switch self.peek {
                case UInt8(ascii: "{"), UInt8(ascii: "["):
                    try enter(self.bytes[self.index] == UInt8(ascii: "{"), self.index)
                    self.index += 1
                    next = .valueOrEnd
                default:
                    // Containers are handled above, so this never nests.
                    _ = try self.skipValue(depth: outer + open.count)
                    next = .commaOrEnd
                }
            }
        }
    }

    private mutating func skipLiteral(_ literal: StaticString) throws(JSONError) {
        let start = self.index
        for position in 0..<literal.utf8CodeUnitCount {
            guard start + position < self.bytes.count else { throw JSONError(.unexpectedEnd, at: self.bytes.count) }
            let byte = self.bytes[start + position]
            guard byte == literal.utf8Start[position] else {
                throw JSONError(.unexpectedByte(byte), at: start + position)
            }
        }
        self.index += literal.utf8CodeUnitCount
    }

    private mutating func skipDigits() -> Int {
        let start = self.index
        while let byte = self.peek, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { self.index += 1 }
        return self.index - start
    }

    private mutating func skipNumber() throws(JSONError) {
        let start = self.index
        if self.peek == UInt8(ascii: "-") { self.index += 1 }
        if self.peek == UInt8(ascii: "0") {
            self.index += 1
        } else if self.skipDigits() == 0 {
            throw JSONError(.invalidNumber, at: start)
        }
        if self.peek == UInt8(ascii: ".") {
            self.index += 1
            guard self.skipDigits() > 0 else { throw JSONError(.invalidNumber, at: start) }
        }
        if self.peek == UInt8(ascii: "e") || self.peek == UInt8(ascii: "E") {
            self.index += 1
            if self.peek == UInt8(ascii: "+") || self.peek == UInt8(ascii: "-") { self.index += 1 }
            guard self.skipDigits() > 0 else { throw JSONError(.invalidNumber, at: start) }
        }
    }

    /// Moves over a string, quotes included. UTF-8 is checked here, since HTTP bodies and binary frames were not checked before.
    mutating func skipString() throws(JSONError) {
        try self.expect(UInt8(ascii: "\""))
        var validator = UTF8Validator()
        while self.index < self.bytes.count {
            let byte = self.bytes[self.index]
            switch byte {
            case UInt8(ascii: "\""):
                guard validator.isAtBoundary else { throw JSONError(.invalidUTF8, at: self.index) }
                self.index += 1
                return
            case UInt8(ascii: "\\"):
                guard validator.isAtBoundary else { throw JSONError(.invalidUTF8, at: self.index) }
                try self.skipEscape()
            case 0..<0x20:
                throw JSONError(.controlCharacterInString, at: self.index)
            case 0x20..<0x80 where validator.isAtBoundary:
                self.index += 1
            default:
                guard validator.consume(byte) else { throw JSONError(.invalidUTF8, at: self.index) }
                self.index += 1
            }
        }
        throw JSONError(.unexpectedEnd, at: self.index)
    }

    private mutating func skipEscape() throws(JSONError) {
        let start = self.index
        self.index += 1
        guard let kind = self.peek else { throw JSONError(.unexpectedEnd, at: self.index) }
        self.index += 1
        switch kind {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            return
        case UInt8(ascii: "u"):
            guard self.index + 4 <= self.bytes.count else { throw JSONError(.unexpectedEnd, at: self.bytes.count) }
            for _ in 0..<4 {
                guard self.bytes[self.index].hexDigitValue != nil else { throw JSONError(.invalidEscape, at: start) }
                self.index += 1
            }
        default:
            throw JSONError(.invalidEscape, at: start)
        }
    }
}

/// A stack of bits: one word while nesting is at most 64 deep, an array beyond.
private struct BitStack {
    private(set) var count = 0
    private var word: UInt64 = 0
    private var deeper: [Bool] = []

    var top: Bool {
        self.count > 64 ? self.deeper[self.deeper.count - 1] : self.word & (1 << UInt64(self.count - 1)) != 0
    }

    mutating func push(_ bit: Bool) {
        if self.count >= 64 {
            self.deeper.append(bit)
        } else if bit {
            self.word |= 1 << UInt64(self.count)
        } else {
            self.word &= ~(1 << UInt64(self.count))
        }
        self.count += 1
    }

    mutating func pop() {
        if self.count > 64 { self.deeper.removeLast() }
        self.count -= 1
    }
}

extension UInt8 {
    var hexDigitValue: UInt32? {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(self - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(self - UInt8(ascii: "a") + 10)
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(self - UInt8(ascii: "A") + 10)
        default: nil
        }
    }
}
