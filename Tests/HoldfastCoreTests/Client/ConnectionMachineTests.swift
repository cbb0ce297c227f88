import HoldfastProtocol
import NIOCore
import Testing

@testable import HoldfastCore

/// What the scenarios cannot say, since they run in JavaScript too: bytes, and numbers that JavaScript does not have.
@Suite("Connection machine")
struct ConnectionMachineTests {
    private static func at(_ milliseconds: Int64) -> Instant { Instant(microseconds: milliseconds * 1000) }

    /// A machine whose line 1 is live, at 100 ms.
    private static func makeLive(
        hello: String = #"{"event":"hello","status":"ok","session":"h1.s1","resumed":false}"#,
        sourceLocation: SourceLocation = #_sourceLocation
    ) -> ConnectionMachine {
        var machine = ConnectionMachine(random: { 0.5 })
        _ = machine.handle(.connect, now: Self.at(0))
        _ = machine.handle(.opened(line: 1), now: Self.at(50))
        _ = machine.handle(.receive(line: 1, text: ByteBuffer(string: hello)), now: Self.at(100))
        #expect(machine.state == .connected, sourceLocation: sourceLocation)
        #expect(machine.liveLine == 1, sourceLocation: sourceLocation)
        return machine
    }

    /// The same, subscribed to `calls.a` with the offset 41.
    private static func makeSubscribed(sourceLocation: SourceLocation = #_sourceLocation) -> ConnectionMachine {
        var machine = Self.makeLive(sourceLocation: sourceLocation)
        _ = machine.handle(.subscribe(id: "c1", subscription: "calls.a"), now: Self.at(110))
        let reply =
            #"{"event":"subscribe","subscription":"calls.a","status":"ok","id":"c1","position":{"epoch":"e","offset":41}}"#
        let actions = machine.handle(.receive(line: 1, text: ByteBuffer(string: reply)), now: Self.at(120))
        #expect(actions.count == 1, sourceLocation: sourceLocation)
        return machine
    }

    private static func receive(_ machine: inout ConnectionMachine, _ text: String) -> [ConnectionAction] {
        machine.handle(.receive(line: 1, text: ByteBuffer(string: text)), now: Self.at(200))
    }

    private static let payloads = [
        #"12345678901234567890.10"#, #"{"a":1,"a":2}"#, #""\u00e9\/\ud800""#, " [ 1 , 2 ] ", "1e400", #""😀""#,
        String(repeating: "[", count: 5000) + String(repeating: "]", count: 5000),
    ]

    @Test(arguments: payloads) func dataIsHandedToTheAppByteForByte(_ data: String) {
        var machine = Self.makeSubscribed()
        let text = #"{"event":"message","subscription":"calls.a","offset":42,"data":"# + data + "}"
        let actions = Self.receive(&machine, text)
        #expect(actions == [.tell(.message(WireEvent(ByteBuffer(string: text))))])
        guard case .tell(.message(let event)) = actions.first else { return }
        #expect(event.data.map { String(buffer: $0) } == data.trimmed)
    }

    @Test(arguments: payloads) func dataGoesOutByteForByte(_ data: String) {
        var machine = Self.makeLive()
        let input = ConnectionInput.message(id: "c1", subscription: "calls.a", data: ByteBuffer(string: data))
        let text = #"{"event":"message","subscription":"calls.a","data":"# + data + #","id":"c1"}"#
        #expect(
            machine.handle(input, now: Self.at(200)).first
                == .send(line: 1, text: ByteBuffer(string: text), number: nil))
    }

    @Test func fieldsCannotReplaceWhatTheProtocolNeeds() throws {
        var machine = Self.makeLive()
        let fields = try ["event", "subscription", "since", "data", "id", "agent"].map { name in
            JSONObject.Member(name: name, value: try JSONValue(parsing: ByteBuffer(string: "7.0")))
        }
        let actions = machine.handle(.subscribe(id: "c1", subscription: "calls.a", fields: fields), now: Self.at(200))
        let text = #"{"agent":7.0,"event":"subscribe","subscription":"calls.a","id":"c1"}"#
        #expect(actions.first == .send(line: 1, text: ByteBuffer(string: text), number: nil))
    }

    @Test(arguments: ["1e308", "1e400", "9e15", "0", "-1", "1e-300", "\"4\"", "null", "18446744073709551616"])
    func adviceThatNoClockCanFollowDoesNoHarm(_ number: String) {
        let hello =
            #"{"event":"hello","status":"ok","session":"h.s","spread":N,"heartbeat":{"interval":N,"hidden_interval":N,"timeout":N}}"#
        var machine = Self.makeLive(hello: hello.replacing("N", with: number))
        _ = Self.receive(&machine, #"{"event":"goaway","retry_after":N}"#.replacing("N", with: number))
        _ = Self.receive(&machine, #"{"event":"goaway","retry_after":[0,N]}"#.replacing("N", with: number))
        _ = machine.handle(.hidden, now: Self.at(300))
        _ = machine.handle(.doubt, now: Self.at(300))
        _ = machine.handle(.timer, now: Self.at(400))
        let advice = RetryAfter.between(0, Double(number) ?? 0)
        _ = machine.handle(.closed(line: 1, code: .goingAway, retryAfter: advice), now: Self.at(500))
        #expect(machine.state == .reconnecting)
    }

    @Test func offsetsAtTheEndOfTheirRangeDoNoHarm() {
        let most = UInt64.max
        var machine = Self.makeSubscribed()
        let message = #"{"event":"message","subscription":"calls.a","offset":\#(most),"data":1}"#
        #expect(
            Self.receive(&machine, message) == [
                .tell(.gap(subscription: "calls.a", after: 41, next: most)),
                .tell(.message(WireEvent(ByteBuffer(string: message)))),
            ]
        )
        #expect(Self.receive(&machine, message) == [])
        for (after, next) in [(most, most), (most, 0), (0, 0), (0, most)] {
            _ = Self.receive(&machine, #"{"event":"gap","subscription":"calls.a","after":\#(after),"next":\#(next)}"#)
        }
        _ = Self.receive(&machine, #"{"event":"gap","subscription":"calls.a","after":null,"next":0}"#)
        #expect(machine.counts.duplicates == 1)
        guard case .tell(.problem(let problem)) = Self.receive(&machine, #"{"event":"ack","received":\#(most)}"#).first
        else {
            Issue.record("a count that cannot be is told")
            return
        }
        #expect(problem.code == "bad_count")
    }

    @Test func theSecretOfTheSessionIsShownNowhere() {
        let hello = #"{"event":"hello","status":"ok","session":"handle.secret","resumed":false}"#
        let machine = Self.makeLive(hello: hello)
        #expect(machine.statistics.sessionHandle == "handle")
        #expect(!"\(WireEvent(ByteBuffer(string: hello)))".contains("secret"))
        #expect(
            !"\(ConnectionNews.connected(resumed: false, event: WireEvent(ByteBuffer(string: hello))))".contains(
                "secret"))
    }

    @Test(arguments: [0, 1]) func theQueueHoldsItsLimitAndNotOneByteMore(over: Int) {
        var options = ConnectionMachine.Options()
        options.queueBytes = 200
        var machine = ConnectionMachine(options: options, random: { 0.5 })
        _ = machine.handle(.connect, now: Self.at(0))
        let frame = #"{"event":"message","subscription":"calls.a","data":"","id":"c1"}"#
        let data = ByteBuffer(string: "\"\(String(repeating: "x", count: 200 - frame.utf8.count + over))\"")
        let actions = machine.handle(.message(id: "c1", subscription: "calls.a", data: data), now: Self.at(1))
        guard over > 0 else {
            #expect(actions == [])
            #expect(machine.statistics.queuedBytes == 200)
            return
        }
        guard case .tell(.reply("c1", let event)) = actions.first else {
            Issue.record("a reply is told, not \(actions)")
            return
        }
        #expect(event.code == "queue_full")
        #expect(event["limit"]?.unsignedInteger == 200)
        #expect(event["actual"]?.unsignedInteger == 201)
        #expect(machine.statistics.queuedBytes == 0)
    }

    @Test func whatTheServerRepeatsWithoutEndTakesNoRoom() {
        var machine = Self.makeSubscribed()
        for offset in 42..<10_000 {
            _ = Self.receive(&machine, #"{"event":"message","subscription":"calls.a","offset":\#(offset),"data":1}"#)
        }
        #expect(machine.statistics.received == 9959)
        _ = Self.receive(&machine, #"{"event":"ack","received":1}"#)
        #expect(machine.statistics.queuedBytes == 0)
    }
}

extension String {
    fileprivate var trimmed: String {
        var text = self[...]
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
