import NIOCore
import Testing

@testable import HoldfastProtocol

@Suite struct ClientHelloTests {
    private static let name = "00000000000000ff.0123456789abcdeffedcba9876543210"

    private func hello(_ members: String) throws -> ClientHello {
        try ClientHello(ClientEvent(parsing: ByteBuffer(string: "{\"event\":\"hello\"\(members)}")))
    }

    @Test func fresh() throws {
        let hello = try self.hello(#","version":1,"client":{"name":"holdfast-js","version":"0.1.0"}"#)
        #expect(hello.resume == nil)
        #expect(hello.client == "holdfast-js 0.1.0")
        #expect(try self.hello(#","version":1,"resume":null"#).resume == nil)
    }

    @Test func resume() throws {
        let hello = try self.hello(",\"version\":1,\"resume\":{\"session\":\"\(Self.name)\",\"received\":17,\"x\":1}")
        #expect(hello.resume?.session == SessionName(Self.name))
        #expect(hello.resume?.session != nil)
        #expect(hello.resume?.received == 17)
        #expect(hello.client == nil)
    }

    /// A name without the form of a name belongs to no session; that is no error of the protocol.
    @Test func strangeNames() throws {
        let hello = try self.hello(#","version":1,"resume":{"session":"nobody","received":0}"#)
        #expect(hello.resume != nil)
        #expect(hello.resume?.session == nil)
    }

    @Test(arguments: [
        "", ",\"version\":2", ",\"version\":0", ",\"version\":\"1\"", ",\"version\":1.0", ",\"version\":null",
    ])
    func versions(_ members: String) {
        #expect(throws: ProtocolError.unsupportedVersion) { try self.hello(members) }
    }

    @Test(arguments: [
        "1", "\"\"", "[]", "{}", "{\"session\":\"NAME\"}", "{\"received\":1}", "{\"session\":1,\"received\":1}",
        "{\"session\":\"NAME\",\"received\":-1}", "{\"session\":\"NAME\",\"received\":\"1\"}",
        "{\"session\":\"NAME\",\"received\":null}",
    ])
    func badResume(_ resume: String) {
        let text = resume.replacing("NAME", with: Self.name)
        #expect(throws: ProtocolError.badHello) { try self.hello(",\"version\":1,\"resume\":\(text)") }
    }

    @Test(arguments: [
        ("{\"name\":\"a\"}", "a" as String?), ("{\"version\":\"1\"}", "1"), ("{}", nil), ("[]", nil), ("1", nil),
        ("{\"name\":1}", nil),
    ])
    func clients(_ client: String, _ expected: String?) throws {
        #expect(try self.hello(",\"version\":1,\"client\":\(client)").client == expected)
    }

    @Test func namesOfClientsAreCutToCodePoints() throws {
        let client = try self.hello(
            ",\"version\":1,\"client\":{\"name\":\"\(String(repeating: "e\u{301}", count: 64))\"}"
        ).client
        #expect(client?.unicodeScalars.count == 64)
    }

    @Test func namesOfClientsAreCut() throws {
        let long = String(repeating: "n", count: 65)
        #expect(
            try self.hello(",\"version\":1,\"client\":{\"name\":\"\(long)\",\"version\":\"\(long)\"}").client?.count
                == 64 + 1 + 64)
    }
}
