import NIOCore
import Testing

@testable import RESP

struct RESPHandshakeTests {
    private func make(
        authentication: Bool = false,
        name: Bool = false,
        database: Int = 0,
        version: RESPConnectionConfiguration.ProtocolVersion = .automatic
    ) -> RESPHandshake {
        RESPHandshake(
            RESPConnectionConfiguration(
                authentication: authentication ? .init(username: "alice", password: "s3cret") : nil,
                databaseNumber: database, clientName: name ? "me" : nil, protocolVersion: version))
    }

    private let ok = RESPValue.simpleString(buffer("OK"))
    private let resp3 = RESPValue.map([
        .init(key: .bulkString(buffer("server")), value: .bulkString(buffer("redis"))),
        .init(key: .bulkString(buffer("proto")), value: .number(3)),
    ])

    private func error(_ message: String) -> RESPValue { .simpleError(buffer(message)) }

    @Test func resp3AtOnce() {
        var handshake = self.make(authentication: true, name: true)
        #expect(handshake.start() == .send(.hello))
        #expect(handshake.received(self.resp3) == .done(isRESP3: true))
    }

    @Test func resp3WithDatabase() {
        var handshake = self.make(database: 3)
        #expect(handshake.start() == .send(.hello))
        #expect(handshake.received(self.resp3) == .send(.select))
        #expect(handshake.received(self.ok) == .done(isRESP3: true))
    }

    @Test(arguments: [
        "ERR unknown command 'HELLO'", "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`,",
        "NOPROTO sorry, this protocol version is not supported", "ERR Unknown Command 'hello'",
    ])
    func fallback(message: String) {
        var handshake = self.make(authentication: true, name: true, database: 2)
        #expect(handshake.start() == .send(.hello))
        #expect(handshake.received(self.error(message)) == .send(.authenticate))
        #expect(handshake.received(self.ok) == .send(.setName))
        #expect(handshake.received(self.error("ERR unknown command 'CLIENT'")) == .send(.select))
        #expect(handshake.received(self.ok) == .done(isRESP3: false))
        var plain = self.make()
        #expect(plain.start() == .send(.hello))
        #expect(plain.received(self.error(message)) == .done(isRESP3: false))
    }

    /// One that asks for the password before it looks at the command.
    @Test func fallbackAfterNOAUTH() {
        var handshake = self.make(authentication: true)
        #expect(handshake.start() == .send(.hello))
        #expect(handshake.received(self.error("NOAUTH Authentication required.")) == .send(.authenticate))
        #expect(handshake.received(self.ok) == .done(isRESP3: false))
    }

    @Test func resp2Wanted() {
        var handshake = self.make(version: .resp2)
        #expect(handshake.start() == .send(.ping))
        #expect(handshake.received(.simpleString(buffer("PONG"))) == .done(isRESP3: false))
        var full = self.make(authentication: true, name: true, database: 1, version: .resp2)
        #expect(full.start() == .send(.authenticate))
        #expect(full.received(self.ok) == .send(.setName))
        #expect(full.received(self.ok) == .send(.select))
        #expect(full.received(self.ok) == .done(isRESP3: false))
    }

    /// A server that wants a password says so before the first command of the owner.
    @Test(arguments: [
        (
            "NOAUTH Authentication required.",
            RESPHandshake.Action.fail(
                RESPError(.authenticationFailed, "the server wants a password (NOAUTH)"))
        ),
        ("LOADING Redis is loading the dataset in memory", .done(isRESP3: false)),
        ("NOPERM no", .done(isRESP3: false)),
    ])
    func resp2WithoutWords(message: String, action: RESPHandshake.Action) {
        var handshake = self.make(version: .resp2)
        #expect(handshake.start() == .send(.ping))
        #expect(handshake.received(self.error(message)) == action)
    }

    @Test func words() {
        var configuration = RESPConnectionConfiguration(databaseNumber: 4, clientName: "me")
        func words(_ step: RESPHandshake.Step) -> [RESPArgument] {
            let command = RESPHandshake.command(step, configuration)
            return [.string(command.name)] + command.arguments
        }
        #expect(words(.hello) == ["HELLO", "3", "SETNAME", "me"])
        #expect(words(.select) == ["SELECT", "4"])
        #expect(words(.ping) == ["PING"])
        #expect(words(.setName) == ["CLIENT", "SETNAME", "me"])
        configuration.authentication = .init(password: "p")
        configuration.clientName = nil
        #expect(words(.hello) == ["HELLO", "3", "AUTH", "default", "p"])
        #expect(words(.authenticate) == ["AUTH", "p"])
        configuration.authentication = .init(username: "u", password: "p")
        #expect(words(.hello) == ["HELLO", "3", "AUTH", "u", "p"])
        #expect(words(.authenticate) == ["AUTH", "u", "p"])
    }

    /// What the server says, what we say. Servers repeat arguments.
    static let refusals: [(String, RESPError.Code, String)] = [
        (
            "WRONGPASS invalid username-password pair or user is disabled. alice s3cret", .authenticationFailed,
            "the server refused the user or the password (WRONGPASS)"
        ),
        (
            "NOAUTH HELLO must be called with alice s3cret", .authenticationFailed,
            "the server wants a password (NOAUTH)"
        ),
        ("NOPERM alice s3cret", .authenticationFailed, "the user may not connect like this (NOPERM)"),
        ("LOADING alice s3cret", .handshakeFailed, "the server is loading its data (LOADING)"),
        (
            "ERR Client sent AUTH, but no password is set", .authenticationFailed,
            "the server has no password, and one is configured here"
        ),
        (
            "ERR AUTH <password> called without any password configured for the default user. Are you sure?",
            .authenticationFailed, "the server has no password, and one is configured here"
        ),
        ("ERR invalid password s3cret", .authenticationFailed, "the server refused the password"),
        ("ERR max number of clients reached", .handshakeFailed, "the server has as many clients as it takes"),
        ("s3cret alice", .authenticationFailed, "the server refused AUTH"),
        ("", .authenticationFailed, "the server refused AUTH"),
    ]

    @Test(arguments: Self.refusals)
    func refusal(said: String, code: RESPError.Code, says: String) {
        var handshake = self.make(authentication: true, version: .resp2)
        #expect(handshake.start() == .send(.authenticate))
        #expect(handshake.received(self.error(said)) == .fail(RESPError(code, says)))
    }

    @Test func helloRefused() {
        var handshake = self.make()
        #expect(handshake.start() == .send(.hello))
        #expect(
            handshake.received(self.error("NOAUTH HELLO must be called"))
                == .fail(RESPError(.authenticationFailed, "the server wants a password (NOAUTH)")))
        var other = self.make(authentication: true)
        #expect(other.start() == .send(.hello))
        #expect(
            other.received(self.error("ERR what is 's3cret'"))
                == .fail(RESPError(.handshakeFailed, "the server refused HELLO")))
    }

    @Test func answersThatCannotBe() {
        for answer in [self.ok, .null, .map([]), .array([])] {
            var handshake = self.make()
            #expect(handshake.start() == .send(.hello))
            #expect(
                handshake.received(answer)
                    == .fail(.protocolError("the server answered HELLO 3 without agreeing to RESP3")))
        }
        var early = self.make()
        #expect(early.received(self.ok) == .fail(.protocolError("an answer to nothing")))
    }

    @Test func selectRefused() {
        var handshake = self.make(database: 99)
        #expect(handshake.start() == .send(.hello))
        #expect(handshake.received(self.resp3) == .send(.select))
        #expect(
            handshake.received(self.error("ERR DB index is out of range"))
                == .fail(
                    RESPError(.handshakeFailed, "the server refused database 99: ERR DB index is out of range")))
    }

    /// Nothing that prints a configuration prints the credentials.
    @Test func secretsAreHidden() {
        let authentication = RESPConnectionConfiguration.Authentication(username: "alice", password: "s3cret")
        let configuration = RESPConnectionConfiguration(authentication: authentication)
        var text =
            "\(authentication) \(configuration) \(String(reflecting: authentication)) \(String(reflecting: configuration))"
        dump(configuration, to: &text)
        dump(authentication, to: &text)
        dump([Optional(configuration)], to: &text)
        #expect(!text.contains("s3cret") && !text.contains("alice"), "\(text)")
        #expect(configuration.description == "database 0, authentication, no TLS")
    }

    @Test func validation() {
        for name in ["", "a b", "a\n", "ä"] {
            #expect(throws: RESPError.self) { try RESPConnectionConfiguration(clientName: name).validate() }
        }
        #expect(throws: RESPError.self) { try RESPConnectionConfiguration(databaseNumber: -1).validate() }
        #expect(throws: Never.self) { try RESPConnectionConfiguration(databaseNumber: 1, clientName: "a-1").validate() }
    }
}
