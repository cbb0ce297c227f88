import NIOCore
import Testing

@testable import HoldfastProtocol

/// Every rule of RFC 8259, from both sides, in a clean and in a dirty buffer.
@Suite struct JSONGrammarTests {
    @Test(arguments: [
        ("{}", JSONValue.Kind.object), ("{ }", .object), ("{\"a\":1}", .object), ("{\"a\" : [ ] , \"b\":{}}", .object),
        ("{\"\":\"\"}", .object), ("[]", .array), ("[ \t\r\n]", .array), ("[1,2 , 3]", .array),
        ("[[],[[]],{}]", .array),
        ("[{\"a\":[{\"b\":null}]}]", .array), ("\"\"", .string), ("\"a\"", .string), ("\"\\\"\"", .string),
        ("\"\\\\\\/\\b\\f\\n\\r\\t\\u00eF\"", .string), ("\"\u{7F}\u{80}\u{7FF}\u{FFFF}\u{10FFFF}\"", .string),
        ("\"\\ud800\"", .string), ("0", .number), ("-0", .number), ("10", .number), ("-1", .number), ("0.0", .number),
        ("1.25", .number), ("1e5", .number), ("1E+05", .number), ("1.5e-10", .number), ("0e0", .number),
        ("123456789012345678901234567890", .number), ("1e999", .number), ("true", .boolean), ("false", .boolean),
        ("null", .null),
    ])
    func accepts(_ text: String, _ kind: JSONValue.Kind) throws {
        for padded in [text, " \t\r\n" + text + " \n\r\t"] {
            let buffer = ByteBuffer(string: padded)
            for input in [buffer, buffer.inDirtyBuffer()] {
                let value = try JSONValue(parsing: input)
                #expect(value.kind == kind)
                #expect(value.text == text)
            }
        }
    }

    @Test(arguments: [
        ("", JSONError.Reason.unexpectedEnd, 0), (" \t", .unexpectedEnd, 2), ("{", .unexpectedEnd, 1),
        ("[", .unexpectedEnd, 1), ("[1", .unexpectedEnd, 2), ("[1,", .unexpectedEnd, 3),
        ("{\"a\"", .unexpectedEnd, 4), ("{\"a\":", .unexpectedEnd, 5), ("{\"a\":1", .unexpectedEnd, 6),
        ("{\"a\":1,", .unexpectedEnd, 7), ("\"", .unexpectedEnd, 1), ("\"abc", .unexpectedEnd, 4),
        ("\"\\", .unexpectedEnd, 2), ("\"\\u12", .unexpectedEnd, 5), ("tru", .unexpectedEnd, 3),
        ("n", .unexpectedEnd, 1),
        ("[1,]", .unexpectedByte(0x5D), 3), ("[,1]", .unexpectedByte(0x2C), 1), ("[1 2]", .unexpectedByte(0x32), 3),
        ("[1}", .unexpectedByte(0x7D), 2), ("{]", .unexpectedByte(0x5D), 1), ("{1:2}", .unexpectedByte(0x31), 1),
        ("{\"a\" 1}", .unexpectedByte(0x31), 5), ("{\"a\":}", .unexpectedByte(0x7D), 5),
        ("{\"a\":1,}", .unexpectedByte(0x7D), 7), ("{,}", .unexpectedByte(0x2C), 1),
        ("{a:1}", .unexpectedByte(0x61), 1),
        ("{\"a\":1 \"b\":2}", .unexpectedByte(0x22), 7), ("[1]]", .trailingBytes, 3), ("1 2", .trailingBytes, 2),
        ("{}{}", .trailingBytes, 2), ("\u{FEFF}1", .unexpectedByte(0xEF), 0), ("'a'", .unexpectedByte(0x27), 0),
        ("True", .unexpectedByte(0x54), 0), ("trUe", .unexpectedByte(0x55), 2), ("nul1", .unexpectedByte(0x31), 3),
        ("truex", .trailingBytes, 4), ("NaN", .unexpectedByte(0x4E), 0), ("Infinity", .unexpectedByte(0x49), 0),
        ("-Infinity", .invalidNumber, 0), ("-", .invalidNumber, 0), ("+1", .unexpectedByte(0x2B), 0),
        (".5", .unexpectedByte(0x2E), 0), ("1.", .invalidNumber, 0), ("1.e5", .invalidNumber, 0),
        ("1e", .invalidNumber, 0), ("1e+", .invalidNumber, 0), ("01", .trailingBytes, 1), ("-01", .trailingBytes, 2),
        ("0x1", .trailingBytes, 1), ("1_000", .trailingBytes, 1), ("[-]", .invalidNumber, 1),
        ("\"\\x\"", .invalidEscape, 1), ("\"\\u12g4\"", .invalidEscape, 1), ("\"\\U0041\"", .invalidEscape, 1),
        ("\"\n\"", .controlCharacterInString, 1), ("\"a\u{0}\"", .controlCharacterInString, 2),
        ("\"\u{1F}\"", .controlCharacterInString, 1), ("[1/**/]", .unexpectedByte(0x2F), 2),
        ("\u{B}1", .unexpectedByte(0x0B), 0),
    ])
    func refuses(_ text: String, _ reason: JSONError.Reason, _ offset: Int) {
        let buffer = ByteBuffer(string: text)
        for input in [buffer, buffer.inDirtyBuffer()] {
            #expect(throws: JSONError(reason, at: offset)) { try JSONValue(parsing: input) }
        }
    }

    @Test func everyEscapeLetter() {
        let allowed = Set("\"\\/bfnrt".utf8)
        for letter in UInt8.min...UInt8.max where letter != UInt8(ascii: "u") {
            let text = ByteBuffer(bytes: [0x22, 0x5C, letter, 0x22])
            #expect(((try? JSONValue(parsing: text)) != nil) == allowed.contains(letter), "escape \(letter)")
        }
    }

    @Test func everyByteInAString() {
        for byte in UInt8.min...UInt8.max {
            let text = ByteBuffer(bytes: [0x22, byte, 0x22])
            let isText = byte >= 0x20 && byte < 0x80 && byte != 0x22 && byte != 0x5C
            #expect(((try? JSONValue(parsing: text)) != nil) == isText, "byte \(byte)")
        }
    }

    @Test func everyByteAsWhitespace() {
        for byte in UInt8.min...UInt8.max where !(0x30...0x39).contains(byte) {
            let isSpace = [0x20, 0x0A, 0x0D, 0x09].contains(byte)
            #expect(((try? JSONValue(parsing: ByteBuffer(bytes: [0x31, byte]))) != nil) == isSpace, "byte \(byte)")
            let before = (try? JSONValue(parsing: ByteBuffer(bytes: [byte, 0x31]))) != nil
            #expect(before == (isSpace || byte == UInt8(ascii: "-")), "byte \(byte)")
        }
    }

    @Test(
        arguments: [
            [0x22, 0xC3, 0x22], [0x22, 0xC3, 0x5C, 0x6E, 0x22], [0x22, 0x80, 0x22], [0x22, 0xC0, 0x80, 0x22],
            [0x22, 0xED, 0xA0, 0x80, 0x22], [0x22, 0xE2, 0x82, 0x22], [0x22, 0xF4, 0x90, 0x80, 0x80, 0x22],
            [0x22, 0xFF, 0x22],
            [0x22, 0xE2, 0x82, 0x61, 0x22],
        ] as [[UInt8]])
    func invalidUTF8(_ bytes: [UInt8]) {
        var reason: JSONError.Reason?
        do { _ = try JSONValue(parsing: ByteBuffer(bytes: bytes)) } catch { reason = error.reason }
        #expect(reason == .invalidUTF8)
        let key = ByteBuffer(bytes: [UInt8(ascii: "{")] + bytes + Array(":1}".utf8))
        #expect((try? JSONObject(parsing: key)) == nil)
        #expect((try? JSONValue(parsing: key)) == nil)
    }
}
