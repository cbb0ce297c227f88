import NIOCore
import Testing

@testable import HoldfastProtocol

@Suite struct JSONObjectTests {
    private func object(_ text: String) throws -> JSONObject { try JSONObject(parsing: ByteBuffer(string: text)) }

    @Test func keepsTheOrderOfTheText() throws {
        #expect(try self.object("{\"b\":1,\"a\":2,\"c\":3}").members.map(\.name) == ["b", "a", "c"])
    }

    @Test func lastOfDuplicatesWins() throws {
        let object = try self.object("{\"a\":1,\"\\u0061\":2,\"b\":0,\"a\":3}")
        #expect(object["a"]?.text == "3")
        #expect(object.members.count == 4)
        #expect(object["c"] == nil)
    }

    @Test func namesAreDecoded() throws {
        let object = try self.object("{\"ev\\u0065nt\":1,\"\":2,\"\\ud83d\\ude00\":3}")
        #expect(object["event"]?.text == "1")
        #expect(object[""]?.text == "2")
        #expect(object["😀"]?.text == "3")
    }

    @Test func aNameWithoutTextIsNobody() throws {
        #expect(try self.object("{\"\\ud800\":1,\"a\":2}").members.map(\.name) == ["a"])
    }

    @Test(arguments: ["[]", "1", "\"{}\"", "null", "true", " [ {} ] "])
    func notAnObject(_ text: String) {
        #expect(throws: JSONError(.notAnObject, at: 0)) { try self.object(text) }
    }

    @Test(arguments: [
        ("", JSONError.Reason.unexpectedEnd), ("{", .unexpectedEnd), ("{}x", .trailingBytes), ("[]x", .trailingBytes),
        ("{\"a\"}", .unexpectedByte(0x7D)), ("{\"a\":1,}", .unexpectedByte(0x7D)), ("{\"a\":1", .unexpectedEnd),
        ("{\"a\":", .unexpectedEnd), ("{a:1}", .unexpectedByte(0x61)), ("{\"a\":1;}", .unexpectedByte(0x3B)),
        ("nope", .unexpectedByte(0x6F)),
    ])
    func refuses(_ text: String, _ expected: JSONError.Reason) {
        var reason: JSONError.Reason?
        do { _ = try self.object(text) } catch let error as JSONError { reason = error.reason } catch {}
        #expect(reason == expected)
    }
}
