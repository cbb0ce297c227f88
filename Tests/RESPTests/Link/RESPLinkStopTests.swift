import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import RESP

/// The end of a link, at any moment.
@Suite(.serialized, .timeLimit(.minutes(2))) struct RESPLinkStopTests {
    private func make(
        _ address: RESPServerAddress,
        _ configuration: RESPConnectionConfiguration = RESPConnectionConfiguration(),
        _ handler: @escaping @Sendable (RESPLink.Event) -> Void
    ) -> RESPLink {
        RESPLink(
            address: address, configuration: configuration, backoff: .init(base: 0.01, cap: 0.05), eventLoop: anyLoop(),
            logger: quiet, handler: handler)
    }

    private static let hello = "%1\r\n+proto\r\n:3\r\n"

    @Test func beforeStart() async throws {
        let log = Log<RESPLink.Event>()
        let link = self.make(.hostname("127.0.0.1", port: 1)) { log.add($0) }
        try await link.stop().get()
        link.start()
        try await link.stop().get()
        let error = await #expect(throws: RESPError.self) { try await link.execute("PING").get() }
        #expect(error?.code == .stopped)
        #expect(log.events.isEmpty && !link.isConnected)
    }

    @Test func whileConnected() async throws {
        try await FakeServer { $0.first == "HELLO" ? Self.hello : "" }.use { server in
            let log = Log<RESPLink.Event>()
            let link = self.make(server.address) { log.add($0) }
            link.start()
            link.start()
            try await log.wait("connected") { $0 == .connected }
            #expect(server.connections == 1)
            let waiting = link.execute("X")
            link.subscribe(["a"])
            // More than once, and at once.
            let ends = (0..<3).map { _ in link.stop() }
            for end in ends { try await end.get() }
            await #expect(throws: RESPError.self) { try await waiting.get() }
            #expect(log.events == [.connected] && !link.isConnected)
            try await eventually("the connection is closed") { server.openConnections == 0 }
            link.subscribe(["a"])
            link.pauseReading()
            link.resumeReading()
            link.start()
            try await link.stop().get()
            #expect(log.events == [.connected] && server.connections == 1)
        }
    }

    @Test func whileGreeting() async throws {
        try await FakeServer { _ in "" }.use { server in
            let log = Log<RESPLink.Event>()
            let link = self.make(server.address) { log.add($0) }
            link.start()
            try await eventually("the server has a connection") { server.connections == 1 }
            try await link.stop().get()
            try await eventually("the connection is closed") { server.openConnections == 0 }
            #expect(log.events.isEmpty)
        }
    }

    /// 192.0.2.0/24 is for documentation (RFC 5737): nobody answers, or the system says at once that there is no way.
    @Test func whileConnecting() async throws {
        for address in [RESPServerAddress.hostname("192.0.2.1", port: 6379), .hostname("localhost", port: 1)] {
            for turns in 0..<5 {
                let log = Log<RESPLink.Event>()
                let link = self.make(address, .init(connectTimeout: .seconds(5))) { log.add($0) }
                link.start()
                for _ in 0..<turns { await Task.yield() }
                let start = ContinuousClock.now
                try await link.stop().get()
                #expect(ContinuousClock.now - start < .seconds(4))
                let count = log.events.count
                try await link.eventLoop.submit {}.get()
                #expect(log.events.count == count)
            }
        }
    }

    @Test func whileWaiting() async throws {
        var address: RESPServerAddress?
        try await FakeServer { _ in nil }.use { address = $0.address }
        let log = Log<RESPLink.Event>()
        let link = self.make(try #require(address)) { log.add($0) }
        link.start()
        try await log.wait("a try that failed") { $0.isDisconnected }
        try await link.stop().get()
        let count = log.events.count
        try await link.eventLoop.scheduleTask(in: .milliseconds(100)) {}.futureResult.get()
        #expect(log.events.count == count)
    }

    /// From inside the handler, at each kind of event.
    @Test func insideTheHandler() async throws {
        try await FakeServer { words in
            switch words.first {
            case "HELLO": Self.hello
            case "SUBSCRIBE":
                ">3\r\n+subscribe\r\n+a\r\n:1\r\n" + String(repeating: ">3\r\n+message\r\n+a\r\n+x\r\n", count: 3)
            default: nil
            }
        }.use { server in
            for moment in ["connected", "subscribed", "message", "disconnected"] {
                let log = Log<RESPLink.Event>()
                let box = NIOLockedValueBox<RESPLink?>(nil)
                let link = self.make(server.address) { event in
                    log.add(event)
                    guard let link = box.withLockedValue({ $0 }) else { return }
                    if "\(event)".hasPrefix(moment) {
                        link.stop()
                    } else if event == .connected {
                        link.subscribe(["a"])
                    } else if event.isMessage {
                        link.execute("BYE").whenComplete { _ in }
                    }
                }
                box.withLockedValue { $0 = link }
                link.start()
                try await log.wait(moment) { "\($0)".hasPrefix(moment) }
                try await link.stop().get()
                #expect("\(log.events.last.map { "\($0)" } ?? "")".hasPrefix(moment))
                #expect(log.events.count { "\($0)".hasPrefix(moment) } == 1)
                box.withLockedValue { $0 = nil }
            }
            try await eventually("all connections are closed") { server.openConnections == 0 }
        }
    }

    /// A link that was stopped is gone, with its handler.
    @Test func nothingLeaks() async throws {
        final class Canary: Sendable {}
        try await FakeServer { $0.first == "HELLO" ? Self.hello : "" }.use { server in
            weak var canary: Canary?
            weak var gone: RESPLink?
            let log = Log<RESPLink.Event>()
            do {
                let held = Canary()
                canary = held
                let link = self.make(server.address) { event in
                    withExtendedLifetime(held) { log.add(event) }
                }
                gone = link
                link.start()
                try await log.wait("connected") { $0 == .connected }
                try await link.stop().get()
            }
            try await eventually("the handler is gone") { canary == nil && gone == nil }
        }
    }
}
