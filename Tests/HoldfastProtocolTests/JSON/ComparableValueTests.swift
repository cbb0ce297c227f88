import NIOCore
import Testing

@testable import HoldfastProtocol

/// Equality is Python's (socketshark.md §9.1).
@Suite struct ComparableValueTests {
    private func value(_ text: String) throws -> ComparableValue {
        ComparableValue(try JSONValue(parsing: ByteBuffer(string: text).inDirtyBuffer()))
    }

    /// Equal both ways, with equal hashes, or unequal both ways; alone and inside of something.
    private func compare(_ left: String, _ right: String) throws -> Bool {
        let isEqual = try self.value(left) == self.value(right)
        for (before, after) in [("", ""), ("[0, ", "]"), ("{\"a\": [", "]}")] {
            let left = try self.value(before + left + after)
            let right = try self.value(before + right + after)
            #expect((left == right) == isEqual)
            #expect((right == left) == isEqual)
            if isEqual { #expect(left.hashValue == right.hashValue) }
        }
        return isEqual
    }

    @Test(
        arguments: [
            "null", "true", "0", "-1", "1.5", "\"\"", "\"a\"", "[]", "{}", "[null]", "{\"a\":null}", "1e400",
            "12345678901234567890", "\"\\ud800\"",
        ])
    func isEqualToItself(_ text: String) throws {
        #expect(try self.compare(text, text))
    }

    @Test(
        arguments: [
            ("1", "1.0"), ("1", "true"), ("1.0", "true"), ("0", "false"), ("0.0", "false"), ("-0", "0"), ("-0.0", "0"),
            ("1", "1e0"), ("100", "1E+2"), ("0.5", "5e-1"), ("0.1", "0.10"), ("1e400", "1e500"),
            ("9223372036854775807", "9223372036854775807"), ("-9223372036854775808", "-9223372036854775808"),
            ("-9223372036854775808", "-9.223372036854775808e18"), ("9007199254740992", "9007199254740992.0"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ])
    func equalNumbers(_ left: String, _ right: String) throws {
        #expect(try self.compare(left, right))
    }

    @Test(
        arguments: [
            ("1", "2"), ("1", "-1"), ("1", "false"), ("0", "true"), ("1", "1.5"), ("1", "\"1\""), ("0", "null"),
            ("false", "null"), ("true", "\"true\""), ("null", "\"null\""), ("0", "\"\""), ("0", "[]"), ("1", "[1]"),
            ("1e400", "-1e400"), ("1e400", "1e300"),
            // Exact where a double is not.
            ("9007199254740993", "9007199254740992"), ("9007199254740993", "9007199254740992.0"),
            ("9223372036854775807", "9223372036854775808"), ("9223372036854775807", "9223372036854775807.0"),
            ("123456789012345678901234567890", "123456789012345678901234567891"),
            ("123456789012345678901234567890", "-123456789012345678901234567890"),
            ("18446744073709551616", "\"18446744073709551616\""),
        ])
    func unequalNumbers(_ left: String, _ right: String) throws {
        #expect(try !self.compare(left, right))
    }

    /// An integer beyond 64 bits and the same number written as a double.
    @Test(
        arguments: [
            ("9223372036854775808", "9223372036854775808.0"), ("18446744073709551616", "1.8446744073709551616e19"),
            ("10000000000000000000", "1e19"),
        ])
    func largeIntegersAndDoubles(_ left: String, _ right: String) throws {
        let isEqual = try self.compare(left, right)
        #expect(isEqual)
    }

    @Test(
        arguments: [
            ("\"a\"", "\"\\u0061\""), ("\"\u{1F988}\"", "\"\\ud83e\\udd88\""), ("\"/\"", "\"\\/\""),
            ("\"\\n\"", "\"\\u000A\""),
        ])
    func equalStrings(_ left: String, _ right: String) throws {
        #expect(try self.compare(left, right))
    }

    @Test(
        arguments: [
            ("\"a\"", "\"A\""), ("\"a\"", "\"a \""), ("\"\"", "\" \""), ("\"\"", "null"), ("\"a\"", "[\"a\"]"),
            // They look alike.
            ("\"\\u00e9\"", "\"e\\u0301\""), ("\"\\u212b\"", "\"\\u00c5\""),
            ("\"\\ud800\"", "\"\\ud801\""), ("\"\\ud800\"", "\"\\\\ud800\""), ("\"\\ud800\"", "\"\""),
        ])
    func unequalStrings(_ left: String, _ right: String) throws {
        #expect(try !self.compare(left, right))
    }

    @Test(
        arguments: [
            ("[]", "[ ]"), ("[1, true, \"a\"]", "[ 1.0,1,\"\\u0061\"]"), ("[[1],[2]]", "[ [ 1 ] , [ 2.0 ] ]"),
            ("{}", "{ }"),
            // The order of keys does not matter, and of duplicates the last one wins.
            ("{\"a\":1,\"b\":2}", "{\"b\":2.0,\"a\":true}"), ("{\"a\":1,\"a\":2}", "{\"a\":2}"),
            ("{\"a\":1,\"\\u0061\":2}", "{\"a\":2}"),
            ("{\"a\":{\"b\":[1]}}", "{\"a\":{\"c\":0,\"b\":[1]}, \"a\":{\"b\":[1.0]}}"),
        ])
    func equalInside(_ left: String, _ right: String) throws {
        #expect(try self.compare(left, right))
    }

    @Test(
        arguments: [
            ("[]", "{}"), ("[]", "[null]"), ("[1,2]", "[2,1]"), ("[1,2]", "[1,2,3]"), ("[[1],2]", "[[1,2]]"),
            ("[\"1\"]", "[1]"), ("{\"a\":1}", "{\"a\":2}"), ("{\"a\":1}", "{\"b\":1}"), ("{\"a\":1}", "{\"A\":1}"),
            ("{\"a\":1}", "{\"a\":1,\"b\":null}"), ("{\"a\":null}", "{}"), ("{\"a\":1,\"a\":2}", "{\"a\":1}"),
            ("{\"\\u00e9\":1}", "{\"e\\u0301\":1}"), ("[]", "\"[]\""), ("{\"0\":1}", "[1]"),
        ])
    func unequalInside(_ left: String, _ right: String) throws {
        #expect(try !self.compare(left, right))
    }

    @Test func objectsOfAnySize() throws {
        let names = (0..<500).map { "\"k\($0)\":\($0)" }
        let texts = [names, names.reversed()].map { "{\($0.joined(separator: ","))}" }
        #expect(try self.value(texts[0]) == self.value(texts[1]))
        #expect(try self.value(texts[0]) != self.value("{\(names.dropLast().joined(separator: ","))}"))
        let elements = (0..<500).map { "\($0)" }.joined(separator: ",")
        #expect(try self.value("[\(elements)]") == self.value("[ \(elements) ]"))
    }

    /// Values down to a depth, bytes below.
    @Test func depth() throws {
        func nested(_ text: String, _ depth: Int) throws -> ComparableValue {
            try self.value(String(repeating: "[", count: depth) + text + String(repeating: "]", count: depth))
        }
        for depth in [1, 15, 16] {
            #expect(try nested("1", depth) == nested(" 1.0", depth))
            #expect(try nested("1", depth) != nested("2", depth))
        }
        for depth in [17, 18, 200] {
            #expect(try nested("1", depth) == nested("1", depth))
            #expect(try nested("1", depth) != nested("1.0", depth))
        }
        #expect(try nested("1", 17) != nested("1", 18))
    }

    /// Nested text is read once per level, not more.
    @Test func deepTextIsNotReadForEver() throws {
        let depth = 250
        let wide = "[" + Array(repeating: "0", count: 10_000).joined(separator: ",") + "]"
        let text = String(repeating: "{\"a\":", count: depth) + wide + String(repeating: "}", count: depth)
        #expect(try self.value(text) == self.value(text))
    }
}
