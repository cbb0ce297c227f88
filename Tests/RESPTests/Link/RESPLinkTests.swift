import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import RESP

/// Against a real redis-server.
@Suite(.serialized, .timeLimit(.minutes(2))) struct RESPLinkTests {
    private func publish(_ server: RedisServer, _ channel: RESPArgument, _ payload: RESPArgument) async throws {
        try await withConnection(to: server.address) { _ = try await $0.execute("PUBLISH", channel, payload) }
    }

    @Test(arguments: RESPConnectionTests.versions)
    func messages(version: RESPConnectionConfiguration.ProtocolVersion) async throws {
        try await RedisServer.with { server in
            try await withLink(to: server.address, .init(protocolVersion: version)) { link, log in
                try await log.wait("connected") { $0 == .connected }
                #expect(link.isConnected)
                link.subscribe(["a", "b"])
                link.subscribe(bytes: [ByteBuffer(bytes: [0xFF, 0x00])])
                link.unsubscribe(["b"])
                try await log.wait("all acknowledged") { $0 == .unsubscribed(channel: buffer("b")) }
                #expect(
                    log.events == [
                        .connected, .subscribed(channel: buffer("a")), .subscribed(channel: buffer("b")),
                        .subscribed(channel: ByteBuffer(bytes: [0xFF, 0x00])), .unsubscribed(channel: buffer("b")),
                    ])
                try await self.publish(server, "a", "x")
                try await self.publish(server, "b", "nobody hears this")
                try await self.publish(server, .bytes(ByteBuffer(bytes: [0xFF, 0x00])), "y")
                try await log.wait("the last message") { $0.isMessage && $0 != log.events[5] }
                #expect(
                    Array(log.events.dropFirst(5)) == [
                        .message(channel: buffer("a"), payload: buffer("x")),
                        .message(channel: ByteBuffer(bytes: [0xFF, 0x00]), payload: buffer("y")),
                    ])
            }
        }
    }

    /// More than one command's worth, asked for in the handler.
    @Test func manyChannels() async throws {
        try await RedisServer.with { server in
            let names = (0..<5_000).map { "channel.\($0)" }
            let box = NIOLockedValueBox<RESPLink?>(nil)
            try await withLink(
                to: server.address,
                onEvent: { event in
                    guard event == .connected else { return }
                    box.withLockedValue { $0 }?.subscribe(names)
                }
            ) { link, log in
                box.withLockedValue { $0 = link }
                link.subscribe(names)
                try await log.wait("the last channel") { $0 == .subscribed(channel: buffer("channel.4999")) }
                let count = try await withConnection(to: server.address) { connection -> RESPValue in
                    try await connection.execute(
                        "PUBSUB", "NUMSUB", "channel.0", "channel.511", "channel.512", "channel.4999")
                }
                guard case .array(let values) = count else { throw TestFailure("\(count)") }
                #expect(values.compactMap(\.integer) == [1, 1, 1, 1])
                link.unsubscribe(names)
                try await log.wait("the last channel") { $0 == .unsubscribed(channel: buffer("channel.4999")) }
                box.withLockedValue { $0 = nil }
            }
        }
    }

    @Test func nothingWithoutConnection() async throws {
        try await RedisServer.with { server in
            server.kill()
            try await withLink(to: server.address) { link, log in
                link.subscribe(["a"])
                link.unsubscribe(["a"])
                #expect(!link.isConnected)
                let future = link.execute("PUBLISH", "a", "b")
                let error = await #expect(throws: RESPError.self) { try await future.get() }
                #expect(error?.code == .notConnected && error?.isRetriable == true)
                let expected = "cannot connect to \(server.address): the connection was refused"
                let third = try await log.wait(from: 2, "three tries") { $0 == .disconnected(reason: expected) }
                try await server.start()
                try await log.wait(from: third, "connected") { $0 == .connected }
                #expect(try await link.execute("PUBLISH", "a", "b").get() == .number(0))
            }
        }
    }

    @Test func serverComesBack() async throws {
        try await RedisServer.with { server in
            try await withLink(to: server.address) { link, log in
                var next = try await log.wait("connected") { $0 == .connected }
                for _ in 0..<3 {
                    let waiting = link.execute("BLPOP", "none", "0")
                    server.kill()
                    next = try await log.wait(from: next, "disconnected") { $0.isDisconnected }
                    #expect(!link.isConnected)
                    await #expect(throws: RESPError.self) { try await waiting.get() }
                    try await server.start()
                    next = try await log.wait(from: next, "connected") { $0 == .connected }
                    #expect(link.isConnected)
                }
                link.subscribe(["a"])
                next = try await log.wait(from: next, "subscribed") { $0.isSubscribed }
                try await self.publish(server, "a", "x")
                try await log.wait(from: next, "message") { $0.isMessage }
            }
        }
    }

    @Test func frozenServer() async throws {
        try await RedisServer.with { server in
            let configuration = RESPConnectionConfiguration(connectTimeout: .milliseconds(300))
            try await withLink(to: server.address, configuration, liveness: .init(pingInterval: 0.02, pingTimeout: 0.3))
            {
                link, log in
                var next = try await log.wait("connected") { $0 == .connected }
                next = try await log.wait(from: next, "latency") { $0.isLatency }
                server.freeze()
                next = try await log.wait(from: next, "disconnected") {
                    $0 == .disconnected(reason: "the server did not answer a PING within 0.3 s")
                }
                #expect(!link.isConnected)
                // The kernel takes the connection, the server does not greet.
                next = try await log.wait(from: next, "a try that failed") {
                    $0 == .disconnected(reason: "cannot connect to \(server.address): not greeted within 0.3 s")
                }
                server.thaw()
                next = try await log.wait(from: next, "connected") { $0 == .connected }
                try await log.wait(from: next, "latency") { $0.isLatency }
            }
        }
    }

    @Test func latency() async throws {
        try await RedisServer.with { server in
            for version in RESPConnectionTests.versions {
                try await withLink(
                    to: server.address, .init(protocolVersion: version),
                    liveness: .init(pingInterval: 0.01, pingTimeout: 5)
                ) { link, log in
                    // The answer has another form while there are subscriptions.
                    var next = try await log.wait("latency") { $0.isLatency }
                    link.subscribe(["a"])
                    next = try await log.wait(from: next, "subscribed") { $0.isSubscribed }
                    for _ in 0..<3 { next = try await log.wait(from: next, "latency") { $0.isLatency } }
                    for case .latency(let seconds) in log.events { #expect(seconds > 0 && seconds < 5) }
                    #expect(log.events.filter(\.isDisconnected).isEmpty)
                }
            }
        }
    }

    @Test func clientKill() async throws {
        try await RedisServer.with { server in
            try await withLink(to: server.address, .init(clientName: "victim")) { link, log in
                var next = try await log.wait("connected") { $0 == .connected }
                let id = try await link.execute("CLIENT", "ID").get()
                let number = try #require(id.integer)
                try await withConnection(to: server.address) {
                    _ = try await $0.execute("CLIENT", "KILL", "ID", RESPArgument(number))
                }
                next = try await log.wait(from: next, "disconnected") {
                    $0 == .disconnected(reason: "the server closed the connection")
                }
                try await log.wait(from: next, "connected") { $0 == .connected }
                #expect(try await link.execute("CLIENT", "ID").get() != id)
            }
        }
    }

    /// A server that keeps everybody waiting looks like one that is dead, until it does not.
    @Test func clientPause() async throws {
        try await RedisServer.with { server in
            let configuration = RESPConnectionConfiguration(connectTimeout: .milliseconds(200))
            try await withLink(to: server.address, configuration, liveness: .init(pingInterval: 0.02, pingTimeout: 0.2))
            {
                _, log in
                var next = try await log.wait("connected") { $0 == .connected }
                try await withConnection(to: server.address) {
                    _ = try await $0.execute("CLIENT", "PAUSE", "1000", "ALL")
                }
                next = try await log.wait(from: next, "disconnected") { $0.isDisconnected }
                next = try await log.wait(from: next, "connected") { $0 == .connected }
                try await log.wait(from: next, "latency") { $0.isLatency }
            }
        }
    }

    // MARK: Flow

    /// While paused nothing comes and the connection stays; then everything comes, in order.
    @Test func pause() async throws {
        try await RedisServer.with { server in
            try await withLink(to: server.address, liveness: .init(pingInterval: 0.01, pingTimeout: 0.5)) { link, log in
                link.subscribe(["early"])
                try await log.wait("connected") { $0 == .connected }
                link.subscribe(["a"])
                try await log.wait("subscribed") { $0.isSubscribed }
                try await link.eventLoop.submit { link.pauseReading() }.get()
                let before = log.events.count
                try await withConnection(to: server.address) { publisher async throws in
                    for number in 0..<2_000 {
                        let _: EventLoopFuture<RESPValue> = publisher.execute("PUBLISH", "a", RESPArgument(number))
                    }
                    _ = try await publisher.execute("PING")
                }
                // Longer than the timeout for several pings.
                try await link.eventLoop.scheduleTask(in: .milliseconds(1_200)) {}.futureResult.get()
                #expect(log.events.count == before && link.isConnected)
                link.resumeReading()
                try await log.wait("the last message") { $0 == .message(channel: buffer("a"), payload: buffer("1999")) }
                let received = log.events.filter(\.isMessage)
                #expect(received == (0..<2_000).map { .message(channel: buffer("a"), payload: buffer("\($0)")) })
                #expect(log.events.filter(\.isDisconnected).isEmpty)
                try await log.wait(from: log.events.count, "latency") { $0.isLatency }
            }
        }
    }

    /// Paused by the handler in the middle of a read: not one message more.
    @Test func pauseInsideTheHandler() async throws {
        try await RedisServer.with { server in
            let box = NIOLockedValueBox<RESPLink?>(nil)
            try await withLink(
                to: server.address,
                onEvent: { event in
                    guard event.isMessage else { return }
                    box.withLockedValue { $0 }?.pauseReading()
                }
            ) { link, log in
                box.withLockedValue { $0 = link }
                try await log.wait("connected") { $0 == .connected }
                link.subscribe(["a"])
                var next = try await log.wait("subscribed") { $0.isSubscribed }
                try await withConnection(to: server.address) { publisher async throws in
                    for number in 0..<100 {
                        let _: EventLoopFuture<RESPValue> = publisher.execute("PUBLISH", "a", RESPArgument(number))
                    }
                    _ = try await publisher.execute("PING")
                }
                for number in 0..<100 {
                    next = try await log.wait(from: next, "message \(number)") { $0.isMessage }
                    #expect(log.events.count == next)
                    #expect(log.events.last == .message(channel: buffer("a"), payload: buffer("\(number)")))
                    link.resumeReading()
                }
                box.withLockedValue { $0 = nil }
            }
        }
    }

    /// A pause outlives the connection.
    @Test func pauseAndReconnect() async throws {
        try await RedisServer.with { server in
            try await withLink(to: server.address) { link, log in
                var next = try await log.wait("connected") { $0 == .connected }
                let id = try #require(try await link.execute("CLIENT", "ID").get().integer)
                link.pauseReading()
                server.kill()
                try await server.start()
                // Whether a connection that is not read is seen to end is up to the system; if it is, the next is paused too.
                link.resumeReading()
                next = try await log.wait(from: next, "disconnected") { $0.isDisconnected }
                link.pauseReading()
                next = try await log.wait(from: next, "connected") { $0 == .connected }
                let answer = link.execute("CLIENT", "ID")
                let isDone = NIOLockedValueBox(false)
                answer.whenComplete { _ in isDone.withLockedValue { $0 = true } }
                try await link.eventLoop.scheduleTask(in: .milliseconds(100)) {}.futureResult.get()
                #expect(!isDone.withLockedValue { $0 })
                link.resumeReading()
                #expect(try await answer.get().integer != nil && id > 0)
            }
        }
    }

    // MARK: Refusals

    @Test(arguments: RESPConnectionTests.versions)
    func oneBadChannel(version: RESPConnectionConfiguration.ProtocolVersion) async throws {
        let rules = ["--user", "alice", "on", ">s3cret", "resetchannels", "&room.*", "+@all", "~*"]
        try await RedisServer.with(rules) { server in
            let configuration = RESPConnectionConfiguration(
                authentication: .init(username: "alice", password: "s3cret"), protocolVersion: version)
            try await withLink(to: server.address, configuration) { link, log in
                try await log.wait("connected") { $0 == .connected }
                link.subscribe(["room.1", "other", "room.2"])
                try await log.wait("the last channel") { $0 == .subscribed(channel: buffer("room.2")) }
                #expect(log.events.count == 4 && log.events[1] == .subscribed(channel: buffer("room.1")))
                guard case .refused(let channel, let error) = log.events[2] else { throw TestFailure("\(log.events)") }
                #expect(channel == buffer("other") && error.serverErrorKind == "NOPERM")
            }
        }
    }

    @Test func wrongPassword() async throws {
        try await RedisServer.with(["--requirepass", "right"]) { server in
            let configuration = RESPConnectionConfiguration(
                authentication: .init(username: "alice", password: "s3cret"))
            try await withLink(to: server.address, configuration) { link, log in
                let expected =
                    "cannot connect to \(server.address): the server refused the user or the password (WRONGPASS)"
                try await log.wait(from: 2, "tries go on") { $0 == .disconnected(reason: expected) }
                #expect(!link.isConnected)
                // The server learns to know us, and the link finds out.
                try await withConnection(to: server.address, .init(authentication: .init(password: "right"))) {
                    _ = try await $0.execute("ACL", "SETUSER", "alice", "on", ">s3cret", "+@all", "~*", "&*")
                }
                try await log.wait("connected") { $0 == .connected }
            }
        }
    }

    /// A subscription that cannot even be sent must not be forgotten: the owner gets the chance to ask again.
    @Test func tooManyCommands() async throws {
        try await RedisServer.with { server in
            var configuration = RESPConnectionConfiguration()
            configuration.maxCommandsInFlight = 2
            try await withLink(to: server.address, configuration) { link, log in
                var next = try await log.wait("connected") { $0 == .connected }
                link.subscribe((0..<2_000).map { "\($0)" })
                next = try await log.wait(from: next, "disconnected") {
                    $0 == .disconnected(reason: "2 commands wait for answers, the limit is 2")
                }
                try await log.wait(from: next, "connected") { $0 == .connected }
            }
        }
    }

    /// An owner who fills the limit does not make the server look dead.
    @Test func pingsAreNotLimited() async throws {
        try await RedisServer.with { server in
            var configuration = RESPConnectionConfiguration()
            configuration.maxCommandsInFlight = 0
            try await withLink(to: server.address, configuration, liveness: .init(pingInterval: 0.01, pingTimeout: 5)) {
                link, log in
                let next = try await log.wait("latency") { $0.isLatency }
                let error = await #expect(throws: RESPError.self) { try await link.execute("PING").get() }
                #expect(error?.code == .tooManyCommands)
                try await log.wait(from: next, "latency") { $0.isLatency }
            }
        }
    }
}
