import Foundation
import HoldfastBroker
import HoldfastClient
import HoldfastCore
import HoldfastFaults
import HoldfastProtocol
import Logging
import NIOConcurrencyHelpers
import NIOCore
import ServiceLifecycle
import Testing

@testable import HoldfastServer

@Suite("The client that apps use, against a real gateway", .timeLimit(.minutes(2)))
struct HoldfastClientTests {
    struct Call: Codable, Sendable, Equatable {
        var n: Int
        var state = "ringing"
    }

    /// What a test wants otherwise.
    struct Changes: Sendable {
        let apply: @Sendable (inout ClientConfiguration) -> Void

        init(_ apply: @escaping @Sendable (inout ClientConfiguration) -> Void) {
            self.apply = apply
        }
    }

    /// Over WebSocket only: on a busy machine the ladder may take another line, and the proxy would cut one that nobody uses.
    private func withClient(
        _ configuration: HoldfastServer.Configuration = TestGateway.configuration,
        configure changes: Changes = Changes { _ in },
        _ body: @escaping @Sendable (TestGateway, HoldfastClient) async throws -> Void
    ) async throws {
        try await TestGateway.with(configuration) { it in
            let client = try HoldfastClient(url: "http://127.0.0.1:\(it.proxy.port)") { configuration in
                configuration.machine.transports = [.websocket]
                changes.apply(&configuration)
            }
            try await body(it, client)
            client.close()
        }
    }

    // MARK: Reading

    @Test func aLoopGetsWhatIsPublished() async throws {
        try await self.withClient { it, client in
            let calls = client.subscribe("calls.call_1")
            let confirmation = try await calls.ready()
            #expect(confirmation.position?.offset == 0)
            #expect(confirmation.isRecovered == nil)
            for text in [#"{"n":1.10}"#, "null", "[ 1 ]"] { try await it.publish("calls.call_1", text) }
            // What came before the loop began is there.
            var seen: [String] = []
            for try await message in calls {
                seen.append(String(buffer: message.data))
                #expect(message.subscription == "calls.call_1")
                #expect(message.position?.offset == UInt64(seen.count))
                #expect(message.gap == nil)
                if seen.count == 3 { break }
            }
            #expect(seen == [#"{"n":1.10}"#, "null", "[ 1 ]"])
            #expect(calls.position?.offset == 3)
        }
    }

    @Test func dataIsDecoded() async throws {
        try await self.withClient { it, client in
            let calls = client.subscribe("calls.call_1", as: Call.self)
            try await calls.ready()
            try await it.publish("calls.call_1", #"{"n":1,"state":"answered"}"#)
            try await it.publish("calls.call_1", #"{"n":"two","state":"ended"}"#)
            var iterator = calls.makeAsyncIterator()
            #expect(try await iterator.next()?.payload == Call(n: 1, state: "answered"))
            let error = await #expect(throws: HoldfastError.self) { try await iterator.next() }
            #expect(error?.code == "undecodable")
            #expect(error?.text.hasPrefix("The data of calls.call_1 is no Call: n: ") == true)
        }
    }

    @Test func aCutIsRecoveredAndTold() async throws {
        try await self.withClient { it, client in
            let calls = client.subscribe("calls.call_1")
            try await calls.ready()
            let states = StateLog(client)
            var events = calls.events.makeAsyncIterator()
            #expect(try await events.next()?.isSubscribed == true)
            try await it.publish("calls.call_1", "1")
            #expect(try await events.next()?.text == "1")
            await it.proxy.cut(reach: .existingConnections)
            for number in 2...5 { try await it.publish("calls.call_1", String(number)) }
            #expect(try await events.next() == .recovered(HoldfastClient.Recovery(means: .session, messages: nil)))
            for number in 2...5 { #expect(try await events.next()?.text == String(number)) }
            #expect(states.states.first?.state == .connected)
            #expect(client.state.state == .connected)
            states.stop()
        }
    }

    @Test func aLostSessionIsRecoveredByPosition() async throws {
        var configuration = TestGateway.configuration
        configuration.sessionTTL = 0.01
        try await self.withClient(configuration) { it, client in
            let calls = client.subscribe("calls.call_1")
            try await calls.ready()
            var events = calls.events.makeAsyncIterator()
            #expect(try await events.next()?.isSubscribed == true)
            await it.proxy.shutdown()
            for number in 1...3 { try await it.publish("calls.call_1", String(number)) }
            try await eventually("the session has ended") { it.gateway.registry.sessionCount == 0 }
            let proxy = try await FaultProxy.start(
                .init(listenPort: it.proxy.port, serverHost: "127.0.0.1", serverPort: it.port))
            #expect(try await events.next()?.isSubscribed == true)
            #expect(try await events.next() == .recovered(HoldfastClient.Recovery(means: .position, messages: 3)))
            for number in 1...3 { #expect(try await events.next()?.text == String(number)) }
            await proxy.shutdown()
        }
    }

    @Test func whatIsLostIsToldWithTheNextMessage() async throws {
        var configuration = TestGateway.configuration
        configuration.isDevelopment = false
        var service = HoldfastServer.Configuration.Service()
        service.requireAuthentication = false
        service.history = HistorySettings(size: 2, ttl: 60)
        configuration.services = ["calls": service]
        try await self.withClient(configuration) { it, client in
            let first = client.subscribe("calls.x")
            let position = try #require(try await first.ready().position)
            for number in 1...5 { try await it.publish("calls.x", String(number)) }
            first.unsubscribe()
            var later = client.subscribe("calls.x", since: position).makeAsyncIterator()
            let message = try #require(try await later.next())
            #expect(String(buffer: message.data) == "4")
            #expect(message.gap == HoldfastClient.Gap(subscription: "calls.x", after: 0, next: 4))
            #expect(message.gap?.missing == 3)
        }
    }

    @Test func subscriptionsOfOneNameShareIt() async throws {
        try await self.withClient { it, client in
            let one = client.subscribe("calls.x")
            let two = client.subscribe("calls.x")
            try await two.ready()
            #expect(it.gateway.registry.sessionCount == 1)
            try await it.publish("calls.x", "1")
            var first = one.makeAsyncIterator()
            var second = two.makeAsyncIterator()
            #expect(try await first.next()?.offset == 1)
            #expect(try await second.next()?.offset == 1)
            one.unsubscribe()
            #expect(try await first.next() == nil)
            try await it.publish("calls.x", "2")
            #expect(try await second.next()?.offset == 2)

            let other = client.subscribe("calls.x", since: HoldfastClient.Position(epoch: "e", offset: 1))
            let error = await #expect(throws: HoldfastError.self) { for try await _ in other {} }
            #expect(error?.code == "subscribed_already")
        }
    }

    @Test func aSubscriptionEndsWhenNobodyHoldsIt() async throws {
        try await self.withClient { it, client in
            let publishing = Task {
                try await eventually("subscribed") {
                    await client.statistics?.state == .connected && it.gateway.registry.sessionCount == 1
                }
                // Before it stands, nobody gets it.
                try await client.subscribe("calls.x").ready()
                try await it.publish("calls.x", "1")
            }
            for try await message in client.subscribe("calls.x") {
                #expect(message.offset == 1)
                break
            }
            try await publishing.value
            try await eventually("unsubscribed") { try await it.metric("holdfast_subscriptions") == 0 }
        }
    }

    @Test func aRefusedSubscriptionThrows() async throws {
        var configuration = TestGateway.configuration
        configuration.isDevelopment = false
        configuration.services = ["calls": .init()]
        try await self.withClient(configuration) { _, client in
            for (name, code) in [("nope.x", "unknown_service"), ("calls.x", "authentication_required")] {
                let subscription = client.subscribe(name)
                let ready = await #expect(throws: HoldfastError.self) { try await subscription.ready() }
                #expect(ready?.code == code)
                let loop = await #expect(throws: HoldfastError.self) { for try await _ in subscription {} }
                #expect(loop?.code == code)
            }
        }
    }

    // MARK: Readers that do not keep up

    @Test func aLoopThatFallsBehindEndsWithAnError() async throws {
        try await self.withClient { it, client in
            let slow = client.subscribe("calls.x", buffer: .fail(beyond: 3))
            let quick = client.subscribe("calls.x")
            try await quick.ready()
            for number in 1...5 { try await it.publish("calls.x", String(number)) }
            var numbers: [UInt64] = []
            for try await message in quick {
                numbers.append(message.offset ?? 0)
                if numbers.count == 5 { break }
            }
            var seen: [UInt64] = []
            let error = await #expect(throws: HoldfastError.self) {
                for try await message in slow { seen.append(message.offset ?? 0) }
            }
            // The word that it stands takes the first place.
            #expect(seen == [1, 2])
            #expect(error?.code == "buffer_full")
            #expect(error?.limit == 3)
            #expect(error?.actual == 4)
        }
    }

    @Test func theOldestAreDroppedAndToldWhereThatIsWanted() async throws {
        try await self.withClient { it, client in
            let latest = client.subscribe("calls.x", buffer: .dropOldest(keeping: 2))
            let all = client.subscribe("calls.x")
            try await all.ready()
            for number in 1...9 { try await it.publish("calls.x", String(number)) }
            for try await message in all where message.offset == 9 { break }
            var iterator = latest.makeAsyncIterator()
            let eighth = try #require(try await iterator.next())
            #expect(eighth.offset == 8)
            #expect(eighth.gap == HoldfastClient.Gap(subscription: "calls.x", after: 0, next: 8))
            #expect(try await iterator.next()?.offset == 9)
        }
    }

    /// News between the messages must not take the place of what is wanted.
    @Test func newsGoBeforeMessages() async throws {
        try await self.withClient { it, client in
            let latest = client.subscribe("calls.x", buffer: .dropOldest(keeping: 1))
            let all = client.subscribe("calls.x")
            var iterator = all.events.makeAsyncIterator()
            try await all.ready()
            for number in 1...3 { try await it.publish("calls.x", String(number)) }
            await it.proxy.cut(reach: .existingConnections)
            // What was on its way is repeated behind the news.
            var (hasRecovered, hasAll) = (false, false)
            while !hasRecovered || !hasAll, let event = try await iterator.next() {
                if case .recovered = event { hasRecovered = true }
                if event.text == "3" { hasAll = true }
            }
            var newest = latest.makeAsyncIterator()
            let third = try #require(try await newest.next())
            #expect(third.offset == 3)
            #expect(third.gap?.missing == 2)
        }
    }

    @Test func whoWaitsUntilItStandsIsNotHeldUp() async throws {
        try await self.withClient(configure: Changes { $0.waitingEvents = 4...8 }) { it, client in
            let slow = client.subscribe("calls.x", buffer: .wait(beyond: 4))
            try await slow.ready()
            for number in 1...12 { try await it.publish("calls.x", String(number)) }
            try await client.subscribe("calls.y").ready()
            for try await message in slow where message.offset == 12 { break }
        }
    }

    /// Before there is a session an unsubscribe is done at once, and its word comes when the name is subscribed anew.
    @Test func theEndOfOneIsNotThatOfTheNext() async throws {
        try await self.withClient { it, client in
            client.subscribe("calls.x").unsubscribe()
            let second = client.subscribe("calls.x")
            try await second.ready()
            second.unsubscribe()
            let third = client.subscribe("calls.x")
            try await third.ready()
            try await it.publish("calls.x", "1")
            for try await message in third {
                #expect(message.offset == 1)
                break
            }
        }
    }

    @Test func aReaderThatIsWaitedForLosesNothing() async throws {
        try await self.withClient(configure: Changes { $0.waitingEvents = 4...8 }) { it, client in
            let slow = client.subscribe("calls.x", buffer: .wait(beyond: 4))
            try await slow.ready()
            let filler = String(repeating: "x", count: 1000)
            for _ in 1...500 { try await it.publish("calls.x", #""\#(filler)""#) }
            // Not all has been read: it waits in the sockets and at the gateway.
            try await eventually("it has begun") { (await client.statistics?.received ?? 0) > 4 }
            #expect((await client.statistics?.received ?? 0) < 100)
            var offsets: [UInt64] = []
            for try await message in slow {
                offsets.append(message.offset ?? 0)
                if offsets.count == 500 { break }
            }
            #expect(offsets == Array(1...500))
        }
    }

    /// The reply stands behind messages that the loop reads only after the reply.
    @Test func aReplyIsNotHeldUpByTheLoopThatWaitsForIt() async throws {
        try await self.withClient(configure: Changes { $0.waitingEvents = 4...8 }) { it, client in
            let calls = client.subscribe("calls.x", buffer: .wait(beyond: 8))
            try await calls.ready()
            for number in 1...24 { try await it.publish("calls.x", String(number)) }
            var count = 0
            for try await _ in calls {
                if count == 0 { try await client.message(Call(n: 1), to: "calls.x") }
                count += 1
                if count == 24 { break }
            }
            #expect(count == 24)
        }
    }

    @Test func aLoopThatIsCancelledEnds() async throws {
        try await self.withClient { it, client in
            let calls = client.subscribe("calls.x")
            try await calls.ready()
            let loop = Task { () -> Int in
                var count = 0
                for try await _ in calls { count += 1 }
                return count
            }
            try await it.publish("calls.x", "1")
            try await eventually("read") { calls.position?.offset == 1 }
            loop.cancel()
            #expect(try await loop.value <= 1)
        }
    }

    // MARK: Sending

    @Test func aMessageIsAnswered() async throws {
        try await self.withClient { _, client in
            try await client.subscribe("calls.x").ready()
            let subscription = client.subscribe("calls.x")
            try await subscription.ready()
            let reply = try await subscription.message(Call(n: 1))
            #expect(reply.data == nil)
            let error = await #expect(throws: HoldfastError.self) {
                try await client.message(ByteBuffer(string: "1"), to: "calls.nobody")
            }
            #expect(error?.code == "not_subscribed")
            let noJSON = await #expect(throws: HoldfastError.self) {
                try await client.message(ByteBuffer(string: "{"), to: "calls.x")
            }
            #expect(noJSON?.code == "unencodable")
        }
    }

    @Test func aMessageOutlivesItsLine() async throws {
        try await self.withClient { it, client in
            let subscription = client.subscribe("calls.x")
            try await subscription.ready()
            await it.proxy.cut(reach: .existingConnections)
            try await subscription.message(Call(n: 1))
            #expect(await client.statistics?.counts.resumed == 1)
        }
    }

    @Test func tooMuchIsRefused() async throws {
        try await self.withClient(configure: Changes { $0.machine.queueBytes = 1000 }) { it, client in
            try await client.subscribe("calls.x").ready()
            let error = await #expect(throws: HoldfastError.self) {
                try await client.message(String(repeating: "x", count: 2000), to: "calls.x")
            }
            #expect(error?.code == "queue_full")
            #expect(error?.limit == 1000)
            #expect(error?.actual ?? 0 > 2000)
        }
    }

    @Test func whoWaitsIsToldThatTheClientIsClosed() async throws {
        try await self.withClient { it, client in
            let subscription = client.subscribe("calls.x")
            try await subscription.ready()
            await it.proxy.cut(reach: .existingConnections)
            let reply = Task { try await client.message(Call(n: 1), to: "calls.x") }
            let loop = Task { for try await _ in subscription {} }
            let cancelled = Task { try await client.message(Call(n: 2), to: "calls.x") }
            try await eventually("both are on their way") { (await client.statistics?.unanswered ?? 0) == 2 }
            cancelled.cancel()
            await #expect(throws: CancellationError.self) { try await cancelled.value }
            client.close()
            let error = await #expect(throws: HoldfastError.self) { try await reply.value }
            #expect(error?.code == "closed")
            // Closed by the app: a loop ends well.
            try await loop.value
            let later = await #expect(throws: HoldfastError.self) {
                for try await _ in client.subscribe("calls.y") {}
            }
            #expect(later?.code == "closed")
            await #expect(throws: HoldfastError.self) { try await client.message(Call(n: 3), to: "calls.x") }
        }
    }

    @Test func itPublishesThroughTheAPI() async throws {
        var configuration = TestGateway.configuration
        configuration.api.key = "0123456789abcdef"
        try await self.withClient(configuration, configure: Changes { $0.apiKey = "0123456789abcdef" }) { it, client in
            let calls = client.subscribe("calls.x", as: Call.self)
            try await calls.ready()
            let first = try await client.publish(Call(n: 1), to: "calls.x", idempotencyKey: "k")
            let again = try await client.publish(Call(n: 1), to: "calls.x", idempotencyKey: "k")
            #expect(first.position?.offset == 1)
            #expect(again == first)
            try await client.publish(Call(n: 2), to: "calls.x")
            var iterator = calls.makeAsyncIterator()
            #expect(try await iterator.next()?.payload.n == 1)
            #expect(try await iterator.next()?.payload.n == 2)

            let stranger = try EventPublisher(url: "http://127.0.0.1:\(it.port)")
            let refused = await #expect(throws: HoldfastError.self) {
                try await stranger.publish(ByteBuffer(string: "1"), to: "calls.x")
            }
            #expect(refused?.text.contains("401") == true)
            #expect(refused?.code != "unreachable")
            let noJSON = await #expect(throws: HoldfastError.self) {
                try await client.publish(ByteBuffer(string: #"1,"filter":2"#), to: "calls.x")
            }
            #expect(noJSON?.code == "unencodable")
        }
    }

    @Test func aPublisherIsToldThatNobodyAnswers() async throws {
        let nobody = try RefusingPort()
        defer { withExtendedLifetime(nobody) {} }
        let port = nobody.port
        let publisher = try EventPublisher(url: "http://127.0.0.1:\(port)")
        let error = await #expect(throws: HoldfastError.self) {
            try await publisher.publish(ByteBuffer(string: "1"), to: "calls.x")
        }
        #expect(error?.code == "unreachable")
        #expect(error?.text == "No gateway answers at http://127.0.0.1:\(port): the connection was refused.")
    }

    // MARK: Life

    @Test func statesBeginWithThePresentOne() async throws {
        try await self.withClient { _, client in
            var states = client.states.makeAsyncIterator()
            #expect(await states.next()?.state == .idle)
            client.connect()
            #expect(await states.next()?.state == .connecting)
            let connected = await states.next()
            #expect(connected?.state == .connected)
            #expect(connected?.reason == .newSession)
            client.close()
            #expect(await states.next()?.reason == .closedByApp)
            #expect(await states.next() == nil)
            // Also for those who come late.
            var late = client.states.makeAsyncIterator()
            #expect(await late.next()?.state == .closed)
            #expect(await late.next() == nil)
        }
    }

    @Test func aClientThatNobodyHoldsIsClosed() async throws {
        try await TestGateway.with { it in
            do {
                let client = try HoldfastClient(url: "http://127.0.0.1:\(it.proxy.port)")
                try await client.subscribe("calls.x").ready()
                #expect(await it.proxy.statistics.connectionsOpen > 0)
            }
            try await eventually("its lines are gone") { await it.proxy.statistics.connectionsOpen == 0 }
        }
    }

    @Test func itIsAServiceThatClosesInOrder() async throws {
        try await self.withClient(configure: Changes { $0.machine.transports = [.websocket] }) { it, client in
            let group = ServiceGroup(
                configuration: .init(services: [.init(service: client)], logger: Logger(label: "test")))
            let running = Task { try await group.run() }
            let subscription = client.subscribe("calls.x")
            try await subscription.ready()
            await it.proxy.cut(reach: .existingConnections)
            let reply = Task { try await client.message(Call(n: 1), to: "calls.x") }
            try await eventually("under way") { (await client.statistics?.unanswered ?? 0) == 1 }
            await group.triggerGracefulShutdown()
            // It has waited for the reply, which took a new line.
            _ = try await reply.value
            try await running.value
            #expect(client.state.reason == .closedByApp)
        }
    }

    @Test func aServiceThatIsClosedForGoodThrows() async throws {
        let nobody = try RefusingPort()
        defer { withExtendedLifetime(nobody) {} }
        let port = nobody.port
        let client = try HoldfastClient(url: "http://127.0.0.1:\(port)") { $0.machine.maxAttempts = 1 }
        let error = await #expect(throws: HoldfastError.self) { try await client.run() }
        #expect(error?.code == "closed")
        #expect(error?.text == "The client is closed: max attempts.")
    }

    @Test func aServiceThatIsCancelledEnds() async throws {
        try await self.withClient { _, client in
            let running = Task { try await client.run() }
            try await eventually("connected") { client.state.state == .connected }
            running.cancel()
            try await running.value
            try await eventually("closed") { client.state.state == .closed }
        }
    }

    @Test func aBadURLIsExplained() throws {
        let error = #expect(throws: GatewayURL.Invalid.self) { try HoldfastClient(url: "events.example.com") }
        #expect(error?.description.contains("the scheme is missing") == true)
        let withPassword = #expect(throws: GatewayURL.Invalid.self) {
            try HoldfastClient(url: "https://ada:secret@example.com/socket?token=t0p")
        }
        #expect(withPassword?.description.hasPrefix("https://…@example.com/socket is no address") == true)
    }
}

extension HoldfastClient.SubscriptionEvent {
    fileprivate var isSubscribed: Bool { if case .subscribed = self { true } else { false } }

    fileprivate var text: String? { if case .message(let message) = self { String(buffer: message.data) } else { nil } }
}

/// The states of a client as they come.
private final class StateLog: Sendable {
    private let box = NIOLockedValueBox<[HoldfastClient.StateChange]>([])
    private let reader: Task<Void, Never>

    init(_ client: HoldfastClient) {
        let box = self.box
        self.reader = Task { for await state in client.states { box.withLockedValue { $0.append(state) } } }
    }

    var states: [HoldfastClient.StateChange] { self.box.withLockedValue { $0 } }

    func stop() { self.reader.cancel() }
}
