import Foundation
import HoldfastCore
import HoldfastProtocol
import NIOCore
import Testing

/// Seeded histories: cuts, delays, half-open lines, lost sessions, sleep, all at random. Every event comes exactly once and
/// in order, or a gap says what is missing; and the client is back once the network is good.
///
/// `HOLDFAST_SEED` chooses the first seed, `HOLDFAST_RUNS` how many.
@Suite("Histories")
struct HistoryTests {
    private static func environment(_ name: String) -> UInt64? {
        ProcessInfo.processInfo.environment[name].flatMap(UInt64.init)
    }

    @Test func everyEventOnceAndInOrderOrAGap() {
        let runs = Self.environment("HOLDFAST_RUNS") ?? 300
        let first = Self.environment("HOLDFAST_SEED") ?? UInt64.random(in: 0..<1 << 48)
        print("\(runs) histories from seed \(first)")
        var sum = Simulation.Seen()
        for seed in first..<first + runs {
            do throws(BrokenPromise) {
                sum.add(try Simulation.run(seed: seed))
            } catch {
                Issue.record("seed \(seed): \(error)")
            }
        }
        print(sum)
        // The histories must be worth something: each of these has to happen often.
        for (name, count) in [
            ("messages", sum.messages), ("gaps", sum.gaps), ("recovered", sum.recovered), ("resumed", sum.resumed),
            ("sessions", sum.sessions), ("executed", sum.executed), ("races", sum.races),
        ] {
            #expect(count >= Int(runs) / 20, "\(name): too few")
        }
    }

    /// A machine that is wrong in one way.
    enum Mistake: CaseIterable {
        case countsTooMany, countsTooFew, forgetsThePosition, asksFromTooFar, swallowsAGap, deliversTwice, setsNoTimer,
            opensNoSecondLine

        func tamper(_ action: ConnectionAction) -> [ConnectionAction] {
            switch (self, action) {
            case (.countsTooMany, .send(let line, let text, let number)):
                [.send(line: line, text: text.changing("\"resume\":{", number: "received") { $0 + 1 }, number: number)]
            case (.countsTooFew, .send(let line, let text, let number)):
                [
                    .send(
                        line: line, text: text.changing("\"resume\":{", number: "received") { max($0, 1) - 1 },
                        number: number)
                ]
            case (.asksFromTooFar, .send(let line, let text, let number)):
                [.send(line: line, text: text.changing("\"since\":{", number: "offset") { $0 + 1 }, number: number)]
            case (.forgetsThePosition, .send(let line, let text, let number)):
                [
                    .send(
                        line: line,
                        text: ByteBuffer(string: String(buffer: text).replacing("\"since\"", with: "\"once\"")),
                        number: number)
                ]
            case (.swallowsAGap, .tell(.gap)): []
            case (.deliversTwice, .tell(.message(let event))) where event["data"]?.unsignedInteger.map { $0 % 7 } == 3:
                [action, action]
            case (.setsNoTimer, .timer): []
            case (.opensNoSecondLine, .open(let line, _)) where line > 1: []
            default: [action]
            }
        }
    }

    /// A test that cannot fail proves nothing: each of these mistakes must be found within the first 200 histories.
    @Test(arguments: Mistake.allCases) func aWrongMachineIsFoundOut(_ mistake: Mistake) {
        for seed in UInt64(1)...200 {
            do {
                _ = try Simulation.run(seed: seed, tamper: mistake.tamper)
            } catch {
                return
            }
        }
        Issue.record("nobody sees that it \(mistake)")
    }
}

extension Simulation.Seen {
    fileprivate mutating func add(_ other: Simulation.Seen) {
        self.messages += other.messages
        self.gaps += other.gaps
        self.recovered += other.recovered
        self.resumed += other.resumed
        self.sessions += other.sessions
        self.executed += other.executed
        self.races += other.races
    }
}

extension ByteBuffer {
    /// The text with the number of a member changed, in texts that have `mark`.
    fileprivate func changing(_ mark: String, number name: String, _ change: (UInt64) -> UInt64) -> ByteBuffer {
        let text = String(buffer: self)
        guard let start = text.firstRange(of: mark)?.upperBound,
            let number = text[start...].firstRange(of: "\"\(name)\":")?.upperBound
        else { return self }
        let digits = text[number...].prefix { $0.isNumber }
        return ByteBuffer(string: text[..<number] + String(change(UInt64(digits) ?? 0)) + text[digits.endIndex...])
    }
}
