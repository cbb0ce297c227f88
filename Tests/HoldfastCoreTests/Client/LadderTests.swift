import HoldfastCore
import HoldfastProtocol
import NIOCore
import Testing

/// What the scenarios cannot say of the transport ladder: its memory as text, and its figures.
@Suite("Transport ladder")
struct LadderTests {
    private static func at(_ milliseconds: Int64) -> Instant { Instant(microseconds: milliseconds * 1000) }

    private static let memory = LadderMemory(
        attempts: [Self.at(-5), Self.at(1_763_740_000_000)], strikes: 1, until: Self.at(7), term: .seconds(7200),
        deaths: 2, life: .milliseconds(1500), rest: Self.at(0), pollUntil: Self.at(3)
    )
    private static let text =
        #"{"v":1,"attempts":[-5,1763740000000],"strikes":1,"until":7,"term":7200000,"deaths":2,"life":1500,"rest":0,"pollUntil":3}"#

    @Test func theMemoryIsWrittenAsTheJavaScriptClientWritesIt() {
        #expect(String(buffer: Self.memory.json()) == Self.text)
        #expect(LadderMemory(parsing: ByteBuffer(string: Self.text)) == Self.memory)
        let nothing =
            #"{"v":1,"attempts":[],"strikes":0,"until":null,"term":3600000,"deaths":0,"life":null,"rest":null,"pollUntil":null}"#
        #expect(String(buffer: LadderMemory().json()) == nothing)
        #expect(LadderMemory(parsing: ByteBuffer(string: nothing)) == LadderMemory())
        #expect(String(buffer: LadderMemory(until: Instant(microseconds: 1499)).json()).contains(#""until":1,"#))
    }

    @Test func theMemoryMovesWithTheClock() {
        let moved = Self.memory.shifted(by: .seconds(1))
        #expect(moved.attempts == [Self.at(995), Self.at(1_763_740_001_000)])
        #expect([moved.until, moved.rest, moved.pollUntil] == [Self.at(1007), Self.at(1000), Self.at(1003)])
        #expect(moved.shifted(by: .seconds(-1)) == Self.memory)
    }

    @Test(arguments: ["", "null", "[]", "7", "\"x\"", "{}", #"{"v":2}"#, #"{"v":"1"}"#, #"{"v":1"#])
    func whatIsNoMemoryIsNone(_ text: String) {
        #expect(LadderMemory(parsing: ByteBuffer(string: text)) == nil)
    }

    @Test(arguments: ["1e400", "-1e400", "1e18", "-9e99", "9223372036854775807", "0.5", "-0.5", "\"1\"", "{}", "null"])
    func numbersThatNoClockShowsDoNoHarm(_ number: String) {
        let names = ["strikes", "until", "term", "deaths", "life", "rest", "pollUntil"].map { #""\#($0)":\#(number)"# }
        let text = #"{"v":1,"attempts":[\#(number),\#(number)],\#(names.joined(separator: ","))}"#
        guard let memory = LadderMemory(parsing: ByteBuffer(string: text)) else {
            Issue.record("a memory with strange members is one")
            return
        }
        for given in [memory, memory.shifted(by: .seconds(1_763_740_000))] {
            var machine = ConnectionMachine(random: { 0.5 })
            _ = machine.handle(.memory(given), now: Self.at(0))
            _ = machine.handle(.connect, now: Self.at(0))
            _ = machine.handle(.closed(line: 1, code: CloseCode(rawValue: 1006)), now: Self.at(10))
            _ = machine.handle(.timer, now: Self.at(2_010))
            _ = machine.handle(.memory(given), now: Self.at(3_000))
            #expect(machine.state == .connecting || machine.state == .reconnecting)
        }
    }

    private static let hello = ByteBuffer(string: #"{"event":"hello","status":"ok","session":"h1.s1","resumed":false}"#)

    @Test func theFiguresSayWhatIsKnown() {
        var machine = ConnectionMachine(random: { 0.5 })
        #expect(machine.statistics.transport == nil)
        #expect(machine.statistics.webSocket == .unknown)
        _ = machine.handle(.memory(LadderMemory(until: Self.at(60_000))), now: Self.at(0))
        #expect(machine.statistics.webSocket == .blocked)
        #expect(machine.statistics.blockedUntil == Self.at(60_000))
        let actions = machine.handle(.connect, now: Self.at(0))
        #expect(actions.contains(.open(line: 1, transport: .stream)))
        _ = machine.handle(.opened(line: 1), now: Self.at(1))
        _ = machine.handle(.receive(line: 1, text: Self.hello), now: Self.at(2))
        #expect(machine.statistics.transport == .stream)
        _ = machine.handle(.memory(LadderMemory(rest: Self.at(60_000))), now: Self.at(3))
        #expect(machine.statistics.webSocket == .resting)
        #expect(machine.statistics.blockedUntil == nil)
        _ = machine.handle(.timer, now: Self.at(60_001))
        #expect(machine.statistics.webSocket == .unknown)
    }

    @Test func aWebSocketThatCarriesTheSessionWorks() {
        var machine = ConnectionMachine(random: { 0.5 })
        _ = machine.handle(.connect, now: Self.at(0))
        _ = machine.handle(.opened(line: 1), now: Self.at(1))
        _ = machine.handle(.memory(LadderMemory(until: Self.at(60_000))), now: Self.at(1))
        _ = machine.handle(.receive(line: 1, text: Self.hello), now: Self.at(2))
        #expect(machine.statistics.transport == .websocket)
        #expect(machine.statistics.webSocket == .works)
        #expect(machine.statistics.blockedUntil == nil)
    }

    /// There is nothing to turn to when its first word is late, so it is waited for as for any quiet line.
    @Test func withoutPollsAStreamHasAllTime() {
        var options = ConnectionMachine.Options()
        options.transports = [.stream]
        var machine = ConnectionMachine(options: options, random: { 0.5 })
        _ = machine.handle(.connect, now: Self.at(0))
        _ = machine.handle(.opened(line: 1), now: Self.at(1))
        _ = machine.handle(.receive(line: 1, text: Self.hello), now: Self.at(2))
        let actions = machine.handle(.heard(line: 1), now: Self.at(2))
        #expect(actions == [.listen(line: 1, transport: .stream, received: 0, wait: nil)])
        // Quiet for an interval of 4 s and the second that a comment may take.
        #expect(machine.handle(.timer, now: Self.at(4_002)) == [.timer(at: Self.at(5_002))])
    }
}
