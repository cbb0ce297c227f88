import Foundation
import HoldfastCore
import HoldfastProtocol
import Testing

/// Every scenario runs against the Swift machine, as it does against the JavaScript one.
@Suite("Scenarios")
struct ScenarioTests {
    @Test("scenario", arguments: try Scenario.names)
    func scenario(_ name: String) throws {
        #expect(try Self.run(name).ownSteps > 0, "a scenario without steps")
    }

    /// A gate that can be skipped silently is no gate.
    @Test("all scenarios run, and use the whole vocabulary")
    func all() throws {
        var ran = (files: 0, steps: 0)
        var seen = Seen()
        for name in try Scenario.names {
            let own = try Self.run(name)
            ran.files += 1
            ran.steps += own.ownSteps
            seen.inputs.formUnion(own.inputs)
            seen.actions.formUnion(own.actions)
        }
        // What is there, counted in another way than it was run.
        let files = try FileManager.default.contentsOfDirectory(atPath: Scenario.folder.path()).filter {
            $0.hasSuffix(".json")
        }
        let steps = try files.reduce(0) { sum, file in
            let text = try String(contentsOf: Scenario.folder.appending(path: file), encoding: .utf8)
            return sum + text.ranges(of: "\"input\":").count
        }
        #expect(ran.files == files.count)
        #expect(ran.steps == steps)
        #expect(ran.files >= 124 && ran.steps >= 1182)
        #expect(seen.inputs == ScenarioVocabulary.inputs)
        #expect(seen.actions == ScenarioVocabulary.actions)
        print("\(ran.files) scenarios with \(ran.steps) steps")
    }

    /// The comparison can fail.
    @Test("a wrong expectation is found")
    func canary() throws {
        let pong = #"{"type":"timer","at":4090}"#
        let (right, wrong) = (
            try JSONTree(.init(string: pong)), try JSONTree(.init(string: #"{"type":"timer","at":4091}"#))
        )
        #expect(throws: Never.self) { try Self.compare([.timer(at: Instant(microseconds: 4_090_000))], [right], "") }
        #expect(throws: ScenarioFailure.self) {
            try Self.compare([.timer(at: Instant(microseconds: 4_090_000))], [wrong], "")
        }
        #expect(throws: ScenarioFailure.self) { try Self.compare([.timer(at: nil)], [right], "") }
        #expect(throws: ScenarioFailure.self) { try Self.compare([], [right], "") }
        #expect(throws: ScenarioFailure.self) { try Self.compare([.timer(at: nil), .timer(at: nil)], [right], "") }
    }

    struct Seen {
        var ownSteps = 0
        var inputs = Set<String>()
        var actions = Set<String>()
    }

    private static func run(_ name: String) throws -> Seen {
        let own = try Scenario(name)
        var chain = [own]
        while let after = chain[0].after { chain.insert(try Scenario(after), at: 0) }
        let random = ScriptedRandom(own.random)
        let options = chain.reduce(into: [:]) { $0.merge($1.options) { $1 } }
        var machine = ConnectionMachine(options: try Self.options(options), random: random.next)
        var seen = Seen(ownSteps: own.steps.count)
        var armed: Int?
        var now = 0
        for part in chain {
            for step in part.steps {
                let place = "\(name): step at \(step.at) of \(part.name)"
                let type = step.input["type"]?.string ?? ""
                guard step.at >= now else { throw ScenarioFailure("\(place): time goes back") }
                now = step.at
                if type == "timer" {
                    guard let due = armed, step.isLate ? step.at > due : step.at == due else {
                        throw ScenarioFailure("\(place): the timer is set to \(armed.map(String.init) ?? "nothing")")
                    }
                    armed = nil
                } else if let due = armed, step.at > due {
                    throw ScenarioFailure("\(place): the timer was due at \(due)")
                }
                let input = try ScenarioVocabulary.input(step.input)
                seen.inputs.insert(type)
                for _ in 0..<step.times {
                    let actions = machine.handle(input, now: Instant(microseconds: Int64(step.at) * 1000))
                    try Self.compare(actions, step.actions, place)
                    for case .timer(let at) in actions { armed = at.map { Int($0.microseconds / 1000) } }
                }
                seen.actions.formUnion(step.actions.compactMap { $0["type"]?.string })
            }
        }
        guard !random.wasExhausted else { throw ScenarioFailure("\(name): more random numbers asked than given") }
        guard random.rest.isEmpty else { throw ScenarioFailure("\(name): random numbers left: \(random.rest)") }
        return seen
    }

    private static func compare(_ actions: [ConnectionAction], _ expected: [JSONTree], _ place: String) throws {
        let actions = try actions.map(ScenarioVocabulary.tree)
        guard actions != expected else { return }
        let lines = { (list: [JSONTree]) in list.map { "\n    \($0.text)" }.joined() }
        throw ScenarioFailure("\(place)\n  expected:\(lines(expected))\n  got:\(lines(actions))")
    }

    private static func options(_ values: [String: JSONTree]) throws -> ConnectionMachine.Options {
        var options = ConnectionMachine.Options()
        options.clientName = "test"
        options.clientVersion = "1"
        options.transports = [.websocket]
        for (name, value) in values {
            switch (name, value.int) {
            case ("connectTimeout", let milliseconds?): options.connectTimeout = .milliseconds(Double(milliseconds))
            case ("queueBytes", let bytes?): options.queueBytes = bytes
            case ("maxAttempts", let count?): options.maxAttempts = count
            case ("credentials", nil): options.hasCredentials = value == .boolean(true)
            case ("transports", nil):
                options.transports = value.elements.compactMap { $0.string.flatMap(ClientTransport.init) }
            default: throw ScenarioFailure("unknown option \(name): \(value.text)")
            }
        }
        return options
    }
}
