import NIOCore

extension ByteBuffer {
    /// Writes a JSON string, quotes included. Only what RFC 8259 §7 demands is escaped; other text goes out as UTF-8.
    public mutating func writeJSONString(_ text: some StringProtocol) {
        self.writeInteger(UInt8(ascii: "\""))
        var text = String(text)
        text.withUTF8 { bytes in
            var start = 0
            for (index, byte) in bytes.enumerated() {
                let escape: StaticString
                switch byte {
                case UInt8(ascii: "\""): escape = "\\\""
                case UInt8(ascii: "\\"): escape = "\\\\"
                case 0x08: escape = "\\b"
                case 0x09: escape = "\\t"
                case 0x0A: escape = "\\n"
                case 0x0C: escape = "\\f"
                case 0x0D: escape = "\\r"
                case 0..<0x20:
                    self.writeBytes(bytes[start..<index])
                    self.writeString("\\u00" + (byte < 16 ? "0" : "") + String(byte, radix: 16))
                    start = index + 1
                    continue
                default: continue
                }
                self.writeBytes(bytes[start..<index])
                self.writeStaticString(escape)
                start = index + 1
            }
            self.writeBytes(bytes[start...])
        }
        self.writeInteger(UInt8(ascii: "\""))
    }

    /// Writes JSON that is known to be well formed, as it is.
    public mutating func writeJSON(_ value: JSONValue) {
        self.writeImmutableBuffer(value.raw)
    }
}

/// Writes one JSON object into a buffer, member by member.
///
/// ```swift
/// let text = JSONWriter.object { json in
///     json.member("event", "pong")
///     json.member("received", 5)
/// }
/// ```
public struct JSONWriter {
    public private(set) var buffer: ByteBuffer
    private var isFirst = true

    public init(into buffer: ByteBuffer = ByteBuffer()) {
        self.buffer = buffer
    }

    /// One object as text.
    public static func object(_ write: (inout JSONWriter) -> Void) -> ByteBuffer {
        var writer = JSONWriter()
        writer.object(write)
        return writer.buffer
    }

    private mutating func key(_ name: String) {
        self.separate()
        self.buffer.writeJSONString(name)
        self.buffer.writeInteger(UInt8(ascii: ":"))
    }

    private mutating func separate() {
        if !self.isFirst { self.buffer.writeInteger(UInt8(ascii: ",")) }
        self.isFirst = false
    }

    private mutating func nested(_ open: UInt8, _ close: UInt8, _ write: (inout JSONWriter) -> Void) {
        self.buffer.writeInteger(open)
        self.isFirst = true
        write(&self)
        self.buffer.writeInteger(close)
        self.isFirst = false
    }

    public mutating func object(_ write: (inout JSONWriter) -> Void) {
        self.nested(UInt8(ascii: "{"), UInt8(ascii: "}"), write)
    }

    public mutating func array(_ write: (inout JSONWriter) -> Void) {
        self.nested(UInt8(ascii: "["), UInt8(ascii: "]"), write)
    }

    public mutating func member(_ name: String, object write: (inout JSONWriter) -> Void) {
        self.key(name)
        self.nested(UInt8(ascii: "{"), UInt8(ascii: "}"), write)
    }

    public mutating func member(_ name: String, array write: (inout JSONWriter) -> Void) {
        self.key(name)
        self.nested(UInt8(ascii: "["), UInt8(ascii: "]"), write)
    }

    public mutating func element(object write: (inout JSONWriter) -> Void) {
        self.separate()
        self.nested(UInt8(ascii: "{"), UInt8(ascii: "}"), write)
    }

    public mutating func element(_ text: some StringProtocol) {
        self.separate()
        self.buffer.writeJSONString(text)
    }

    /// Writes an element that is well formed JSON, as it is.
    public mutating func element(raw: ByteBuffer) {
        self.separate()
        self.buffer.writeImmutableBuffer(raw)
    }

    public mutating func element(number: Double) {
        self.separate()
        self.buffer.writeString(Self.text(of: number))
    }

    public mutating func member(_ name: String, _ text: some StringProtocol) {
        self.key(name)
        self.buffer.writeJSONString(text)
    }

    public mutating func member(_ name: String, _ value: some BinaryInteger) {
        self.key(name)
        self.buffer.writeString(String(value))
    }

    public mutating func member(_ name: String, _ value: Bool) {
        self.key(name)
        self.buffer.writeString(value ? "true" : "false")
    }

    public mutating func member(_ name: String, number: Double) {
        self.key(name)
        self.buffer.writeString(Self.text(of: number))
    }

    public mutating func memberNull(_ name: String) {
        self.key(name)
        self.buffer.writeString("null")
    }

    public mutating func member(_ name: String, _ value: JSONValue) {
        self.member(name, raw: value.raw)
    }

    /// Writes a member whose value is well formed JSON, as it is.
    public mutating func member(_ name: String, raw: ByteBuffer) {
        self.key(name)
        self.buffer.writeImmutableBuffer(raw)
    }

    /// JSON has no infinities: they become 0, which no caller sends. Whole numbers go without a fraction.
    private static func text(of number: Double) -> String {
        guard number.isFinite else { return "0" }
        return number == number.rounded() && abs(number) < 1e15 ? String(Int64(number)) : String(number)
    }
}
