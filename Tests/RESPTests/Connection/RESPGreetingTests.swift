import NIOConcurrencyHelpers
import NIOCore
import NIOSSL
import Testing

@testable import RESP

/// Against servers that a real one is not, and with TLS.
@Suite(.serialized, .timeLimit(.minutes(2))) struct RESPGreetingTests {
    private let credentials = RESPConnectionConfiguration.Authentication(username: "alice", password: "s3cret")

    /// Redis 5: repeats what it does not know.
    @Test func anOldServer() async throws {
        let commands = NIOLockedValueBox<[[String]]>([])
        try await FakeServer { words in
            commands.withLockedValue { $0.append(words) }
            switch words.first {
            case "HELLO":
                return "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `alice`, `s3cret`, \r\n"
            case "AUTH": return words == ["AUTH", "alice", "s3cret"] ? "+OK\r\n" : "-ERR invalid password\r\n"
            case "PING": return "+PONG\r\n"
            default: return "+OK\r\n"
            }
        }.use { server in
            let configuration = RESPConnectionConfiguration(
                authentication: self.credentials, databaseNumber: 1, clientName: "me")
            try await withConnection(to: server.address, configuration) { connection async throws in
                #expect(!connection.isRESP3)
                #expect(try await connection.execute("PING").string == "PONG")
            }
            #expect(commands.withLockedValue { $0.map(\.[0]) } == ["HELLO", "AUTH", "CLIENT", "SELECT", "PING"])
        }
    }

    /// What a server answers to everything, and what we make of it.
    @Test(arguments: [
        ("-LOADING Redis is loading the dataset in memory\r\n", RESPError.Code.handshakeFailed, "LOADING"),
        ("-NOAUTH Authentication required.\r\n", .authenticationFailed, "NOAUTH"),
        ("-WRONGPASS alice s3cret\r\n", .authenticationFailed, "WRONGPASS"),
        ("-ERR unknown command with args `alice` `s3cret`\r\n", .authenticationFailed, "refused AUTH"),
        ("-ERR alice s3cret\r\n", .handshakeFailed, "refused HELLO"),
        ("HTTP/1.1 400 Bad Request\r\n", .protocolError, "0x48"),
        ("+OK\r\n", .protocolError, "without agreeing to RESP3"),
        ("%1\r\n+proto\r\n:2\r\n", .protocolError, "without agreeing to RESP3"),
        (">1\r\n+x\r\n+OK\r\n", .protocolError, "without agreeing to RESP3"),
    ])
    func refusals(answer: String, code: RESPError.Code, text: String) async throws {
        try await FakeServer { _ in answer }.use { server in
            let error = try await connectError(server.address, .init(authentication: self.credentials))
            #expect(error.code == code)
            #expect(error.message.contains(text), "\(error)")
            #expect(!error.message.contains("s3cret") && !error.message.contains("alice"))
            try await eventually("the connection is closed") { server.openConnections == 0 }
        }
    }

    @Test func closedAtOnce() async throws {
        try await FakeServer { _ in nil }.use { server in
            let error = try await connectError(server.address)
            #expect(
                error
                    == RESPError(
                        .connectFailed, "cannot connect to \(server.address): the server closed the connection"))
        }
    }

    @Test func silence() async throws {
        try await FakeServer { _ in "" }.use { server in
            let error = try await connectError(server.address, .init(connectTimeout: .milliseconds(100)))
            #expect(
                error
                    == RESPError(.connectTimeout, "cannot connect to \(server.address): not greeted within 0.1 s"))
            try await eventually("the connection is closed") { server.openConnections == 0 }
        }
    }

    @Test func nonsenseLater() async throws {
        try await FakeServer { words in
            words.first == "HELLO" ? "%1\r\n+proto\r\n:3\r\n" : words.first == "TWICE" ? "+1\r\n+2\r\n" : "x"
        }.use { server in
            for (command, message) in [
                ("X", "the server sent 0x78 is not"), ("TWICE", "the server sent an answer to no"),
            ] {
                let log = Log<RESPConnection.Event>()
                try await withConnection(to: server.address, onEvent: log.add) { connection async throws in
                    let _: EventLoopFuture<RESPValue> = connection.execute(command)
                    try await log.wait("the end") { if case .closed = $0 { true } else { false } }
                    guard case .closed(let error)? = log.events.last else { throw TestFailure("\(log.events)") }
                    #expect(error.code == .protocolError && error.message.hasPrefix(message), "\(error)")
                }
            }
        }
    }

    @Test func loadingLater() async throws {
        try await FakeServer { words in
            words.first == "HELLO" ? "%1\r\n+proto\r\n:3\r\n" : "-LOADING Redis is loading the dataset in memory\r\n"
        }.use { server in
            try await withConnection(to: server.address) { connection async throws in
                let error = await #expect(throws: RESPError.self) { try await connection.execute("PUBLISH", "a", "b") }
                #expect(error?.serverErrorKind == "LOADING" && error?.isRetriable == true)
            }
        }
    }

    // MARK: TLS

    private func context(trusting file: String?) throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeClientConfiguration()
        if let file { configuration.trustRoots = .file(file) }
        return try NIOSSLContext(configuration: configuration)
    }

    @Test func tls() async throws {
        try await withTemporaryDirectory { directory in
            let certificates = try Certificates(in: directory)
            let port = try await RedisServer.freePort()
            let arguments = [
                "--tls-port", "\(port)", "--tls-cert-file", certificates.certificate, "--tls-key-file",
                certificates.key,
                "--tls-ca-cert-file", certificates.authority, "--tls-auth-clients", "no",
            ]
            try await RedisServer.with(arguments) { server in
                let trusted = try self.context(trusting: certificates.authority)
                try await self.speakTLS(to: .hostname("127.0.0.1", port: port), trusted)
                try await self.mistakeTLS(for: server.address, and: .hostname("127.0.0.1", port: port), trusted)
            }
        }
    }

    private func speakTLS(to address: RESPServerAddress, _ trusted: NIOSSLContext) async throws {
        let log = Log<RESPConnection.Event>()
        let good = RESPConnectionConfiguration(tls: .enable(trusted, tlsServerName: "redis.test"))
        try await withConnection(to: address, good, onEvent: log.add) { connection in
            #expect(connection.isRESP3)
            try await connection.subscribe(["a"]).get()
            let payload = String(repeating: "x", count: 1 << 20)
            _ = try await connection.execute("PUBLISH", "a", .string(payload))
            try await log.wait("the message") { $0 == .message(channel: buffer("a"), payload: buffer(payload)) }
        }
        // Another name, an address that is not in the certificate, an unknown authority.
        for tls in [
            RESPConnectionConfiguration.TLS.enable(trusted, tlsServerName: "other.test"), .enable(trusted),
            .enable(try self.context(trusting: nil), tlsServerName: "redis.test"),
        ] {
            let error = try await connectError(address, .init(tls: tls))
            #expect(error.code == .connectFailed && error.message.contains("TLS failed"), "\(error)")
        }
    }

    /// TLS to a port without it, and the other way round. Redis waits for the end of the line that it takes a TLS hello for.
    private func mistakeTLS(
        for plain: RESPServerAddress,
        and encrypted: RESPServerAddress,
        _ trusted: NIOSSLContext
    ) async throws {
        let timeout = TimeAmount.milliseconds(300)
        let tooMuch = try await connectError(plain, .init(connectTimeout: timeout, tls: .enable(trusted)))
        #expect([.connectFailed, .connectTimeout].contains(tooMuch.code), "\(tooMuch)")
        let tooLittle = try await connectError(encrypted, .init(connectTimeout: timeout))
        #expect([.connectFailed, .protocolError, .connectTimeout].contains(tooLittle.code), "\(tooLittle)")
    }
}
