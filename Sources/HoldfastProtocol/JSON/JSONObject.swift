import NIOCore

/// One JSON value as the bytes that stood in the text, untouched.
public struct JSONValue: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        case object, array, string, number, boolean, null
    }

    public let kind: Kind
    /// The value's own bytes, without white space around them. Shares the memory of the text it was read from.
    public let raw: ByteBuffer

    /// The decoded text of a string; `nil` for any other kind, and for a string with a lone surrogate escape, which has no text.
    public var string: String? {
        guard self.kind == .string else { return nil }
        return self.raw.withUnsafeReadableBytes { bytes in
            JSONString.decode(UnsafeRawBufferPointer(rebasing: bytes[1..<(bytes.count - 1)]))
        }
    }

    /// A number written as an integer from 0 to 2^64-1 without sign, fraction or exponent.
    public var unsignedInteger: UInt64? {
        guard self.kind == .number else { return nil }
        // Swift takes "-0" for an unsigned zero.
        guard self.raw.readableBytesView.first != UInt8(ascii: "-") else { return nil }
        return UInt64(self.text)
    }

    /// Any number, as near as the type comes.
    public var double: Double? { self.kind == .number ? Double(self.text) : nil }

    public var boolean: Bool? { self.kind == .boolean ? self.text == "true" : nil }

    /// What Python calls falsy: `null`, `false`, zero, and the empty string, array and object (socketshark.md §3.2).
    public var isFalsy: Bool {
        switch self.kind {
        case .null: true
        case .boolean: self.text == "false"
        case .number: Double(self.text) == 0
        case .string: self.raw.readableBytes == 2
        case .array, .object:
            // Only white space between the brackets.
            self.raw.readableBytesView.dropFirst().dropLast()
                .allSatisfy { $0 == 0x20 || $0 == 0x0A || $0 == 0x0D || $0 == 0x09 }
        }
    }

    /// The raw bytes as text.
    public var text: String { String(buffer: self.raw) }

    /// The same value in memory of its own, exactly as large as needed.
    public func copied() -> JSONValue {
        JSONValue(kind: self.kind, raw: ByteBuffer(bytes: self.raw.readableBytesView))
    }

    /// Reads a text that holds one value and nothing else.
    public init(parsing text: ByteBuffer, limits: JSONLimits = JSONLimits()) throws(JSONError) {
        let (kind, start, end) = try text.scanJSON { bytes throws(JSONError) in
            var scanner = JSONScanner(bytes, limits: limits)
            scanner.skipWhitespace()
            let start = scanner.index
            let kind = try scanner.skipValue(depth: 0)
            let end = scanner.index
            scanner.skipWhitespace()
            guard scanner.isAtEnd else { throw JSONError(.trailingBytes, at: scanner.index) }
            return (kind, start, end)
        }
        self.init(kind: kind, raw: text.piece(start..<end))
    }

    init(kind: Kind, raw: ByteBuffer) {
        self.kind = kind
        self.raw = raw
    }

    public static let null = JSONValue(kind: .null, raw: ByteBuffer(string: "null"))

    /// A string value.
    public init(_ text: String) {
        var raw = ByteBuffer()
        raw.writeJSONString(text)
        self.init(kind: .string, raw: raw)
    }

    /// The elements of an array, in order; `nil` if the value is not an array.
    /// - Parameter limit: most elements, beyond which reading stops with ``JSONError/Reason/tooManyMembers(limit:)``.
    public func elements(limit: Int, limits: JSONLimits = JSONLimits()) throws(JSONError) -> [JSONValue]? {
        guard self.kind == .array else { return nil }
        let found = try self.raw.scanJSON { bytes throws(JSONError) -> [(Kind, Range<Int>)] in
            var scanner = JSONScanner(bytes, limits: limits)
            var found: [(Kind, Range<Int>)] = []
            try scanner.expect(UInt8(ascii: "["))
            scanner.skipWhitespace()
            if scanner.peek == UInt8(ascii: "]") { return found }
            while true {
                scanner.skipWhitespace()
                guard found.count < limit else { throw JSONError(.tooManyMembers(limit: limit), at: scanner.index) }
                let start = scanner.index
                let kind = try scanner.skipValue(depth: 1)
                found.append((kind, start..<scanner.index))
                scanner.skipWhitespace()
                if scanner.peek == UInt8(ascii: "]") { return found }
                try scanner.expect(UInt8(ascii: ","))
            }
        }
        return found.map { JSONValue(kind: $0.0, raw: self.raw.piece($0.1)) }
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral {
    public init(stringLiteral text: String) {
        self.init(text)
    }

    public init(integerLiteral number: Int) {
        self.init(kind: .number, raw: ByteBuffer(string: String(number)))
    }

    public init(booleanLiteral flag: Bool) {
        self.init(kind: .boolean, raw: ByteBuffer(string: flag ? "true" : "false"))
    }
}

/// The members of one JSON object in the order of the text. Values are kept as bytes; nothing below the first level is looked at.
public struct JSONObject: Sendable {
    public struct Member: Sendable, Equatable {
        public let name: String
        public let value: JSONValue

        public init(name: String, value: JSONValue) {
            self.name = name
            self.value = value
        }
    }

    public private(set) var members: [Member]

    /// The value of a member. Of duplicates the last one counts, as in every JSON library that the clients use.
    public subscript(_ name: String) -> JSONValue? {
        self.members.last { $0.name == name }?.value
    }

    public init(_ members: [Member]) {
        self.members = members
    }

    /// The same members in memory of their own.
    public func copied() -> JSONObject {
        JSONObject(self.members.map { Member(name: $0.name, value: $0.value.copied()) })
    }

    /// Reads a text that holds one object and nothing else.
    public init(parsing text: ByteBuffer, limits: JSONLimits = JSONLimits()) throws(JSONError) {
        typealias Found = (name: String?, kind: JSONValue.Kind, value: Range<Int>)
        let found = try text.scanJSON { bytes throws(JSONError) -> [Found] in
            var scanner = JSONScanner(bytes, limits: limits)
            var found: [Found] = []
            scanner.skipWhitespace()
            if let first = scanner.peek, first != UInt8(ascii: "{") {
                // Tell "not JSON" from "JSON, but no object".
                _ = try scanner.skipValue(depth: 0)
                scanner.skipWhitespace()
                guard scanner.isAtEnd else { throw JSONError(.trailingBytes, at: scanner.index) }
                throw JSONError(.notAnObject, at: 0)
            }
            try scanner.expect(UInt8(ascii: "{"))
            scanner.skipWhitespace()
            if scanner.peek == UInt8(ascii: "}") {
                try scanner.expect(UInt8(ascii: "}"))
            } else {
                while true {
                    scanner.skipWhitespace()
                    let nameStart = scanner.index
                    try scanner.skipString()
                    let name = JSONString.decode(
                        UnsafeRawBufferPointer(rebasing: bytes[(nameStart + 1)..<(scanner.index - 1)])
                    )
                    scanner.skipWhitespace()
                    try scanner.expect(UInt8(ascii: ":"))
                    scanner.skipWhitespace()
                    guard found.count < limits.members else {
                        throw JSONError(.tooManyMembers(limit: limits.members), at: nameStart)
                    }
                    let start = scanner.index
                    let kind = try scanner.skipValue(depth: 1)
                    found.append((name, kind, start..<scanner.index))
                    scanner.skipWhitespace()
                    if scanner.peek == UInt8(ascii: "}") {
                        try scanner.expect(UInt8(ascii: "}"))
                        break
                    }
                    try scanner.expect(UInt8(ascii: ","))
                }
            }
            scanner.skipWhitespace()
            guard scanner.isAtEnd else { throw JSONError(.trailingBytes, at: scanner.index) }
            return found
        }
        self.members = found.compactMap { member in
            // A name with a lone surrogate has no text and can be none that we know.
            member.name.map { Member(name: $0, value: JSONValue(kind: member.kind, raw: text.piece(member.value))) }
        }
    }
}

extension ByteBuffer {
    /// The bytes at `range`, counted from the reader index. They share this buffer's memory.
    func piece(_ range: Range<Int>) -> ByteBuffer {
        // The scanner only reports ranges inside the readable bytes.
        self.getSlice(at: self.readerIndex + range.lowerBound, length: range.count) ?? ByteBuffer()
    }

    /// `withUnsafeReadableBytes` with a typed error.
    func scanJSON<T>(_ body: (UnsafeRawBufferPointer) throws(JSONError) -> T) throws(JSONError) -> T {
        let result = self.withUnsafeReadableBytes { bytes -> Result<T, JSONError> in
            do throws(JSONError) {
                return .success(try body(bytes))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}
