/// Why a text was refused by the JSON reader.
///
/// `offset` is the byte at which reading stopped, counted from 0.
public struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Reason: Equatable, Sendable {
        case unexpectedEnd
        case unexpectedByte(UInt8)
        case invalidEscape
        case controlCharacterInString
        case invalidUTF8
        case invalidNumber
        case tooDeep(limit: Int)
        case tooManyMembers(limit: Int)
        case trailingBytes
        case notAnObject
    }

    public let reason: Reason
    public let offset: Int

    public init(_ reason: Reason, at offset: Int) {
        self.reason = reason
        self.offset = offset
    }

    public var description: String {
        switch self.reason {
        case .unexpectedEnd: "the JSON text ends too early, at byte \(self.offset)"
        case .unexpectedByte(let byte):
            "unexpected byte 0x\(String(byte, radix: 16)) at byte \(self.offset) of the JSON text"
        case .invalidEscape: "invalid escape at byte \(self.offset) of the JSON text"
        case .controlCharacterInString: "unescaped control character at byte \(self.offset) of the JSON text"
        case .invalidUTF8: "invalid UTF-8 at byte \(self.offset) of the JSON text"
        case .invalidNumber: "invalid number at byte \(self.offset) of the JSON text"
        case .tooDeep(let limit): "JSON nested deeper than the limit of \(limit), at byte \(self.offset)"
        case .tooManyMembers(let limit): "JSON object with more members than the limit of \(limit)"
        case .trailingBytes: "bytes after the end of the JSON value, at byte \(self.offset)"
        case .notAnObject: "the JSON value is not an object"
        }
    }
}

/// Limits of what the JSON reader accepts. They bound work and stack; the size of the text is limited by who reads it.
public struct JSONLimits: Sendable, Equatable {
    /// Deepest nesting of arrays and objects, the outermost counted as 1.
    public var depth: Int
    /// Most members of the envelope (not of `data`, whose members are never looked at).
    public var members: Int

    public init(depth: Int = 256, members: Int = 64) {
        self.depth = depth
        self.members = members
    }
}
