import NIOCore
import Testing

@testable import HoldfastProtocol

@Suite struct JSONValueTests {
    private func value(_ text: String) throws -> JSONValue { try JSONValue(parsing: ByteBuffer(string: text)) }

    @Test(arguments: [
        ("\"\"", ""), ("\"a\"", "a"), ("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\u{8}\u{C}\n\r\t"),
        ("\"\\u0000\"", "\u{0}"),
        ("\"\\u00e9\\u20AC\"", "é€"), ("\"é€😀\"", "é€😀"), ("\"\\uD83D\\uDE00\"", "😀"),
        ("\"\\ud800\\udc00\"", "\u{10000}"),
        ("\"\\udbff\\udfff\"", "\u{10FFFF}"), ("\"\\uFFFF\"", "\u{FFFF}"), ("\"a\\u0062c\\n\"", "abc\n"),
        ("\"\\\\u0041\"", "\\u0041"),
    ])
    func strings(_ text: String, _ decoded: String) throws {
        let string = try self.value(text).string
        #expect(string.map { Array($0.unicodeScalars) } == Array(decoded.unicodeScalars))
    }

    @Test(arguments: [
        "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800x\"", "\"\\ud800\\n\"", "\"\\ud800\\u0041\"",
        "\"\\ud800\\ud800\\udc00\"",
        "\"\\udc00\\ud800\"",
    ])
    func loneSurrogatesHaveNoText(_ text: String) throws {
        let value = try self.value(text)
        #expect(value.kind == .string)
        #expect(value.string == nil)
        #expect(value.text == text)
    }

    @Test(arguments: [
        ("0", 0 as UInt64?), ("7", 7), ("18446744073709551615", .max), ("18446744073709551616", nil), ("-1", nil),
        ("1.0", nil),
        ("1e3", nil), ("\"1\"", nil), ("true", nil), ("null", nil), ("[]", nil),
    ])
    func unsignedIntegers(_ text: String, _ number: UInt64?) throws {
        #expect(try self.value(text).unsignedInteger == number)
    }

    @Test func aMinusIsNoUnsignedInteger() throws {
        let value = try self.value("-0")
        #expect(value.unsignedInteger == nil)
    }

    @Test(arguments: [
        ("null", true), ("false", true), ("true", false), ("0", true), ("-0", true), ("0.0", true), ("0e5", true),
        ("-0.0E-3", true),
        ("1", false), ("0.1", false), ("-1", false), ("\"\"", true), ("\"0\"", false), ("\" \"", false),
        ("\"false\"", false), ("[]", true),
        ("[ \n\t\r]", true), ("[0]", false), ("[[]]", false), ("{}", true), ("{ }", true), ("{\"a\":null}", false),
    ])
    func falsyLikePython(_ text: String, _ isFalsy: Bool) throws {
        #expect(try self.value(text).isFalsy == isFalsy)
    }

    @Test func booleans() throws {
        #expect(try self.value("true").boolean == true)
        #expect(try self.value("false").boolean == false)
        #expect(try self.value("\"true\"").boolean == nil)
        #expect(try self.value("1").boolean == nil)
    }

    /// What Python's and JavaScript's libraries would change when they decode and encode.
    @Test(arguments: [
        "1.0", "1e0", "100000000000000000000001", "0.10000000000000000000000001", "\"\\u0041\\/\"",
        "{\"b\":1,\"a\":2,\"b\":3}",
        "[ 1 ,\n2 ]", "-0", "\"\\ud800\"",
    ])
    func rawBytesAreKept(_ text: String) throws {
        let object = try JSONObject(parsing: ByteBuffer(string: " {\"data\" : \(text) , \"x\":1} ").inDirtyBuffer())
        #expect(object["data"]?.text == text)
        #expect(object["data"]?.copied().text == text)
        #expect(object["data"]?.copied() == object["data"])
        let written = JSONWriter.object { json in
            for member in object.members { json.member(member.name, member.value) }
        }
        #expect(String(buffer: written) == "{\"data\":\(text),\"x\":1}")
    }
}
