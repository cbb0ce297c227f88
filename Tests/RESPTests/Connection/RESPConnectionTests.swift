import NIOCore
import NIOPosix
import Testing

@testable import RESP

/// Against a real redis-server.
@Suite(.serialized, .timeLimit(.minutes(2))) struct RESPConnectionTests {
    static let versions: [RESPConnectionConfiguration.ProtocolVersion] = [.automatic, .resp2]

    @Test(arguments: Self.versions)
    func pipeline(version: RESPConnectionConfiguration.ProtocolVersion) async throws {
        try await RedisServer.with { server in
            try await withConnection(to: server.address, .init(protocolVersion: version)) { connection async throws in
                #expect(connection.isRESP3 == (version == .automatic))
                let futures = (0..<10_000).map { number -> EventLoopFuture<RESPValue> in
                    connection.execute("ECHO", RESPArgument(number))
                }
                let answers = try await EventLoopFuture.whenAllSucceed(futures, on: connection.eventLoop).get()
                #expect(answers.map(\.string) == (0..<10_000).map { "\($0)" })
            }
        }
    }

    /// From many threads at once, each sees its own answers.
    @Test func manyTasks() async throws {
        try await RedisServer.with { server in
            try await withConnection(to: server.address) { connection async throws in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for task in 0..<50 {
                        group.addTask {
                            for number in 0..<20 {
                                let answer = try await connection.execute("ECHO", "\(task) \(number)")
                                #expect(answer.string == "\(task) \(number)")
                            }
                        }
                    }
                    try await group.waitForAll()
                }
            }
        }
    }

    @Test(arguments: Self.versions)
    func channels(version: RESPConnectionConfiguration.ProtocolVersion) async throws {
        try await RedisServer.with { server in
            let log = Log<RESPConnection.Event>()
            let configuration = RESPConnectionConfiguration(protocolVersion: version)
            try await withConnection(to: server.address, configuration, onEvent: log.add) { connection async throws in
                // All in one pipeline: the acknowledgements find their commands.
                let subscribed = connection.subscribe(["a", "b", "c"])
                let unsubscribed = connection.unsubscribe(["b", "never"])
                let ping: EventLoopFuture<RESPValue> = connection.execute("PING")
                let again = connection.subscribe(["b"])
                try await subscribed.get()
                try await unsubscribed.get()
                let pong = try await ping.get()
                #expect(
                    pong
                        == (connection.isRESP3
                            ? .simpleString(buffer("PONG"))
                            : .array([.bulkString(buffer("pong")), .bulkString(buffer(""))])))
                try await again.get()
                let names = ["a", "b", "c"].map { RESPConnection.Event.subscribed(channel: buffer($0)) }
                #expect(
                    log.events
                        == names + ["b", "never"].map { .unsubscribed(channel: buffer($0)) }
                        + [.subscribed(channel: buffer("b"))])
                try await withConnection(to: server.address) { publisher async throws in
                    for number in 0..<1_000 {
                        let _: EventLoopFuture<RESPValue> = publisher.execute("PUBLISH", "a", RESPArgument(number))
                    }
                    let count = try await publisher.execute("PUBLISH", "b", "")
                    #expect(count == .number(1))
                }
                try await log.wait("the last message") { $0 == .message(channel: buffer("b"), payload: buffer("")) }
                #expect(
                    log.events.dropFirst(6)
                        == (0..<1_000).map { .message(channel: buffer("a"), payload: buffer("\($0)")) }
                        + [.message(channel: buffer("b"), payload: buffer(""))])
                // Without subscriptions an array is an answer again.
                try await connection.unsubscribe(["a", "b", "c"]).get()
                _ = try await connection.execute("RPUSH", "list", "message", "x", "y")
                let list = try await connection.execute("LRANGE", "list", "0", "-1")
                #expect(list == .array(["message", "x", "y"].map { .bulkString(buffer($0)) }))
            }
            #expect(log.events.last == .closed(RESPError(.connectionClosed, "the connection was closed here")))
        }
    }

    @Test func ownMessagesAndAnswers() async throws {
        try await RedisServer.with { server in
            let log = Log<RESPConnection.Event>()
            try await withConnection(to: server.address, onEvent: log.add) { connection async throws in
                try await connection.subscribe(["a"]).get()
                // RESP3 can do this: the message comes between the answers.
                #expect(try await connection.execute("PUBLISH", "a", "x") == .number(1))
                #expect(try await connection.execute("ECHO", "y").string == "y")
                try await log.wait("the message") { $0 == .message(channel: buffer("a"), payload: buffer("x")) }
            }
        }
    }

    @Test(arguments: Self.versions)
    func binaryNamesAndLargeMessages(version: RESPConnectionConfiguration.ProtocolVersion) async throws {
        try await RedisServer.with { server in
            let log = Log<RESPConnection.Event>()
            let configuration = RESPConnectionConfiguration(protocolVersion: version)
            let name = ByteBuffer(bytes: (0...255).map { UInt8($0) } + [0x0D, 0x0A, 0xFF])
            let payload = ByteBuffer(bytes: (0..<10 << 20).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) })
            try await withConnection(to: server.address, configuration, onEvent: log.add) { connection async throws in
                try await connection.subscribe([.bytes(name), ""]).get()
                #expect(log.events == [.subscribed(channel: name), .subscribed(channel: ByteBuffer())])
                try await withConnection(to: server.address, configuration) { publisher async throws in
                    #expect(try await publisher.execute("PUBLISH", .bytes(name), .bytes(payload)) == .number(1))
                    #expect(try await publisher.execute("PUBLISH", "", .bytes(name)) == .number(1))
                }
                try await log.wait("both messages") { $0 == .message(channel: ByteBuffer(), payload: name) }
                #expect(log.events.count == 4 && log.events[2] == .message(channel: name, payload: payload))
            }
        }
    }

    // MARK: Greeting

    @Test(arguments: Self.versions)
    func password(version: RESPConnectionConfiguration.ProtocolVersion) async throws {
        try await RedisServer.with(["--requirepass", "s3cret pass"]) { server in
            var configuration = RESPConnectionConfiguration(
                authentication: .init(password: "s3cret pass"), databaseNumber: 2, clientName: "holdfast",
                protocolVersion: version)
            try await withConnection(to: server.address, configuration) { connection async throws in
                #expect(try await connection.execute("CLIENT", "GETNAME").string == "holdfast")
                let info = try await connection.execute("CLIENT", "INFO").string ?? ""
                #expect(info.contains(" db=2 ") && info.contains(" user=default "))
            }
            configuration.authentication = .init(password: "wr0ng")
            let refused = try await connectError(server.address, configuration)
            #expect(
                refused
                    == RESPError(
                        .authenticationFailed,
                        "cannot connect to \(server.address): the server refused the user or the password (WRONGPASS)"))
            configuration.authentication = nil
            let missing = try await connectError(server.address, configuration)
            #expect(missing.code == .authenticationFailed && missing.message.contains("NOAUTH"))
        }
    }

    @Test(arguments: Self.versions)
    func user(version: RESPConnectionConfiguration.ProtocolVersion) async throws {
        let rules =
            ["--user", "alice", "on", ">s3cret", "resetchannels", "&room.*", "+@all", "~*"] + [
                "--user", "default", "off",
            ]
        try await RedisServer.with(rules) { server in
            var configuration = RESPConnectionConfiguration(
                authentication: .init(username: "alice", password: "s3cret"), protocolVersion: version)
            let log = Log<RESPConnection.Event>()
            try await withConnection(to: server.address, configuration, onEvent: log.add) { connection async throws in
                #expect(try await connection.execute("ACL", "WHOAMI").string == "alice")
                let refused = connection.subscribe(["room.1", "other"])
                let allowed = connection.subscribe(["room.2"])
                await #expect(throws: RESPError.self) { try await refused.get() }
                try await allowed.get()
                guard case .refused(let channels, let error)? = log.events.first else {
                    throw TestFailure("\(log.events)")
                }
                #expect(channels == ["room.1", "other"] && error.serverErrorKind == "NOPERM" && !error.isRetriable)
                #expect(log.events.count == 2)
            }
            for (name, password) in [("alice", "wr0ng"), ("bob7", "s3cret")] {
                configuration.authentication = .init(username: name, password: password)
                let error = try await connectError(server.address, configuration)
                #expect(error.code == .authenticationFailed)
                for secret in ["s3cret", "wr0ng", "alice", "bob7"] { #expect(!"\(error)".contains(secret)) }
            }
        }
    }

    /// A password that nobody asked for: HELLO takes it for a user without one, AUTH does not.
    @Test func unwantedPassword() async throws {
        try await RedisServer.with { server in
            let configuration = RESPConnectionConfiguration(
                authentication: .init(password: "s3cret"), protocolVersion: .resp2)
            let error = try await connectError(server.address, configuration)
            #expect(error.code == .authenticationFailed && error.message.contains("the server has no password"))
        }
    }

    @Test(arguments: Self.versions)
    func database(version: RESPConnectionConfiguration.ProtocolVersion) async throws {
        try await RedisServer.with { server in
            try await withConnection(to: server.address, .init(databaseNumber: 7, protocolVersion: version)) {
                _ = try await $0.execute("SET", "key", "of 7")
            }
            try await withConnection(to: server.address) { connection async throws in
                #expect(try await connection.execute("GET", "key") == .null)
                #expect(try await connection.execute("SELECT", "7").string == "OK")
                #expect(try await connection.execute("GET", "key").string == "of 7")
            }
            let error = try await connectError(server.address, .init(databaseNumber: 99, protocolVersion: version))
            #expect(error.code == .handshakeFailed && error.message.contains("database 99"))
        }
    }

    @Test func unixSocket() async throws {
        try await RedisServer.with { server in
            try await withConnection(to: server.socketAddress) { connection async throws in
                #expect(try await connection.execute("ECHO", "x").string == "x")
            }
            let missing = RESPServerAddress.unixDomainSocket(path: server.directory + "/none")
            let error = try await connectError(missing)
            #expect(error.code == .connectFailed && error.message.contains("there is no such socket"))
            let long = RESPServerAddress.unixDomainSocket(path: "/" + String(repeating: "a", count: 200))
            #expect(try await connectError(long).code == .connectFailed)
        }
    }

    @Test func nobodyThere() async throws {
        var address: RESPServerAddress?
        try await FakeServer { _ in nil }.use { address = $0.address }
        let gone = try #require(address)
        let error = try await connectError(gone)
        #expect(error == RESPError(.connectFailed, "cannot connect to \(gone): the connection was refused"))
        #expect(error.isRetriable)
        #expect(try await connectError(gone, .init(clientName: "a b")).code == .invalidConfiguration)
        let unknown = try await connectError(.hostname("no-such-host.invalid"))
        #expect(unknown.code == .connectFailed)
    }

    // MARK: Errors

    @Test func errorAnswers() async throws {
        try await RedisServer.with { server in
            try await withConnection(to: server.address) { connection async throws in
                _ = try await connection.execute("SET", "key", "text")
                let error = await #expect(throws: RESPError.self) { try await connection.execute("INCR", "key") }
                #expect(error?.code == .commandError && error?.serverErrorKind == "ERR")
                #expect(try await connection.execute("ECHO", "x").string == "x")
                for command in ["subscribe", "MONITOR", "Reset", "QUIT"] {
                    let refused = await #expect(throws: RESPError.self) { try await connection.execute(command) }
                    #expect(refused?.code == .unsupportedCommand)
                }
            }
        }
    }

    @Test func commandsInFlight() async throws {
        try await RedisServer.with { server in
            var configuration = RESPConnectionConfiguration()
            configuration.maxCommandsInFlight = 2
            configuration.maxOutboundBytes = 1_000
            try await withConnection(to: server.address, configuration) { connection async throws in
                // In one turn of the loop, so that no answer comes in between.
                let results = try await connection.eventLoop.flatSubmit {
                    let futures = (0..<3).map { number -> EventLoopFuture<RESPValue> in
                        connection.execute("ECHO", RESPArgument(number))
                    }
                    return EventLoopFuture.whenAllComplete(futures, on: connection.eventLoop)
                }.get()
                #expect(try results[1].get().string == "1")
                #expect(throws: RESPError(.tooManyCommands, "2 commands wait for answers, the limit is 2")) {
                    try results[2].get()
                }
                let large = RESPArgument(String(repeating: "a", count: 1_000))
                let error = await #expect(throws: RESPError.self) { try await connection.execute("ECHO", large) }
                #expect(error?.code == .tooManyCommands && error?.message.contains("the limit is 1000") == true)
                #expect(try await connection.execute("ECHO", "x").string == "x")
            }
        }
    }

    @Test func lostWithCommandsInFlight() async throws {
        try await RedisServer.with { server in
            let log = Log<RESPConnection.Event>()
            try await withConnection(to: server.address, onEvent: log.add) { connection async throws in
                let waiting: EventLoopFuture<RESPValue> = connection.execute("BLPOP", "none", "0")
                let subscription = connection.subscribe(["a"])
                // Both are on their way, not only meant to be.
                try await connection.eventLoop.submit {}.get()
                server.kill()
                let expected = RESPError(.connectionClosed, "")
                for future in [waiting.map { _ in }, subscription] {
                    let error = await #expect(throws: RESPError.self) { try await future.get() }
                    #expect(error?.code == expected.code && error?.isRetriable == true)
                }
                try await log.wait("the end") { if case .closed = $0 { true } else { false } }
                let after = await #expect(throws: RESPError.self) { try await connection.execute("PING") }
                #expect(after?.code == .notConnected)
                try await connection.closeFuture.get()
            }
            #expect(log.events.count == 1)
        }
    }

    @Test func commandTimeout() async throws {
        try await RedisServer.with { server in
            let configuration = RESPConnectionConfiguration(commandTimeout: .milliseconds(500))
            try await withConnection(to: server.address, configuration) { connection async throws in
                #expect(try await connection.execute("ECHO", "x").string == "x")
                let error = await #expect(throws: RESPError.self) { try await connection.execute("BLPOP", "none", "0") }
                #expect(error == RESPError(.commandTimeout, "a command was not answered within 0.5 s"))
                try await connection.closeFuture.get()
            }
        }
    }

    /// Time in which we do not read is not the server's.
    @Test func commandTimeoutWhilePaused() async throws {
        try await RedisServer.with { server in
            let configuration = RESPConnectionConfiguration(commandTimeout: .milliseconds(500))
            try await withConnection(to: server.address, configuration) { connection async throws in
                connection.pauseReading()
                let answer: EventLoopFuture<RESPValue> = connection.execute("ECHO", "x")
                try await connection.eventLoop.scheduleTask(in: .milliseconds(1_200)) {}.futureResult.get()
                connection.resumeReading()
                #expect(try await answer.get().string == "x")
            }
        }
    }
}
