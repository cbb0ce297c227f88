import NIOCore
import Testing

@testable import HoldfastProtocol

@Suite struct ClientEventTests {
    private func event(_ text: String) throws -> ClientEvent { try ClientEvent(parsing: ByteBuffer(string: text)) }

    @Test(arguments: [
        ("auth", ClientEvent.Name.auth, true), ("subscribe", .subscribe, true), ("message", .message, true),
        ("unsubscribe", .unsubscribe, true), ("ping", .ping, false), ("hello", .hello, false), ("probe", .probe, false),
        ("pong", .pong, false), ("ack", .ack, false), ("goaway", .other("goaway"), false),
        ("Ping", .other("Ping"), true), ("", .other(""), true),
        ("dance", .other("dance"), true),
    ])
    func namesAndCounting(_ text: String, _ name: ClientEvent.Name, _ isCounted: Bool) throws {
        let event = try self.event("{\"event\":\"\(text)\"}")
        #expect(event.name == name)
        #expect(event.name.text == text)
        #expect(event.isCounted == isCounted)
    }

    @Test func theNameMayBeEscaped() throws {
        #expect(try self.event("{\"\\u0065vent\":\"p\\u0069ng\"}").name == .ping)
        #expect(try self.event("{\"event\":\"ping\",\"event\":\"ack\"}").name == .ack)
    }

    /// 40 code points, not bytes and not what people see as characters.
    @Test func lengthOfTheName() throws {
        for (unit, name) in [("a", "bytes"), ("é", "two bytes"), ("😀", "four bytes"), ("e\u{301}", "two code points")] {
            let count = 40 / unit.unicodeScalars.count
            #expect(throws: Never.self, "\(name)") {
                try self.event("{\"event\":\"\(String(repeating: unit, count: count))\"}")
            }
            #expect(throws: ProtocolError.badEvent, "\(name)") {
                try self.event("{\"event\":\"\(String(repeating: unit, count: count))x\"}")
            }
        }
    }

    @Test(arguments: [
        "", "null", "[]", "\"event\"", "{}", "{\"event\":null}", "{\"event\":1}", "{\"event\":[\"ping\"]}",
        "{\"Event\":\"ping\"}",
        "{\"event\":\"\\ud800\"}", "{\"event\":\"ping\"}}", "{\"event\":\"ping\",}", "{\"event\":\"ping\"",
        "{\"data\":{\"event\":\"ping\"}}",
    ])
    func noEvent(_ text: String) {
        #expect(throws: ProtocolError.badEvent) { try self.event(text) }
    }

    @Test func received() throws {
        #expect(try self.event(#"{"event":"ping"}"#).received() == nil)
        #expect(try self.event(#"{"event":"ping","received":17}"#).received() == 17)
        for bad in ["-1", "1.0", "\"1\"", "null", "18446744073709551616", "{}"] {
            #expect(throws: ProtocolError.badCount) {
                try self.event("{\"event\":\"ping\",\"received\":\(bad)}").received()
            }
        }
    }

    @Test func id() throws {
        #expect(try self.event(#"{"event":"x"}"#).id() == nil)
        for good in [
            "1", "-7", "0", "9223372036854775807", "-9223372036854775808", "\"\"", "\"\\u0061\"",
            "\"\(String(repeating: "é", count: 64))\"",
        ] {
            #expect(try self.event("{\"event\":\"x\",\"id\":\(good)}").id()?.text == good)
        }
        for bad in [
            "1.0", "1e3", "9223372036854775808", "null", "true", "[]", "{}", "\"\\ud800\"",
            "\"\(String(repeating: "é", count: 65))\"",
        ] {
            #expect(throws: ProtocolError.badID) { try self.event("{\"event\":\"x\",\"id\":\(bad)}").id() }
        }
    }

    @Test func pingData() throws {
        #expect(try self.event(#"{"event":"ping"}"#).pingData == nil)
        #expect(try self.event(#"{"event":"ping","data":1}"#).pingData == nil)
        #expect(try self.event(#"{"event":"ping","data":""}"#).pingData == "")
        for (sent, kept) in [(127, 127), (128, 128), (129, 128), (5000, 128)] {
            let data = try self.event("{\"event\":\"ping\",\"data\":\"\(String(repeating: "😀", count: sent))\"}")
                .pingData
            #expect(data?.unicodeScalars.count == kept)
        }
        // Cut between the code points of what people see as one character.
        let combined = String(repeating: "a", count: 127) + "e\u{301}"
        #expect(try self.event("{\"event\":\"ping\",\"data\":\"\(combined)\"}").pingData?.unicodeScalars.count == 128)
    }

    @Test func limitsApply() throws {
        let text = ByteBuffer(string: "{\"event\":\"x\",\"data\":[[1]]}")
        #expect(throws: Never.self) { try ClientEvent(parsing: text, limits: JSONLimits(depth: 3, members: 2)) }
        #expect(throws: ProtocolError.badEvent) {
            try ClientEvent(parsing: text, limits: JSONLimits(depth: 2, members: 2))
        }
        #expect(throws: ProtocolError.badEvent) {
            try ClientEvent(parsing: text, limits: JSONLimits(depth: 3, members: 1))
        }
    }
}
