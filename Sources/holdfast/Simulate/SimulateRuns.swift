import ArgumentParser
import Foundation
import HoldfastSimulation
import NIOConcurrencyHelpers

struct SimulateRuns: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "runs",
        abstract: "Run one world after the other, each from a seed.",
        discussion: """
            Exit code 0: every promise was kept; 1: a run broke one. A failing run is made smaller for as long as it breaks the \
            same promise; the smaller plan is printed and can be run again with --plan.
            """
    )

    @Option(name: .long, help: "The first seed; the next run has the next one.")
    var seed: UInt64 = 1

    @Option(name: .long, help: "How many runs.")
    var runs = 100

    @Option(name: .long, help: "Stop after so many seconds, however many runs are left.")
    var seconds: Double?

    @Option(name: .long, help: "Virtual minutes with faults in each run; without it the seed decides, from 1 to 10.")
    var minutes: Double?

    @Option(name: .long, help: "Runs side by side; by default one for each core.")
    var jobs = ProcessInfo.processInfo.activeProcessorCount

    @Option(name: .long, help: "Run the plan in this file (JSON, as a failing run prints it) instead of seeds.")
    var plan: String?

    @Flag(name: .long, help: "Print all that happens. With a single run.")
    var trace = false

    @Flag(name: .long, inversion: .prefixedNo, help: "Make a failing run smaller.")
    var shrink = true

    @Flag(name: .long, help: "Print one JSON object at the end instead of text.")
    var json = false

    func validate() throws {
        guard (1...1_000_000_000).contains(self.runs) else {
            throw ValidationError("--runs is \(self.runs); it must be from 1 to 1000000000.")
        }
        guard (1...256).contains(self.jobs) else {
            throw ValidationError("--jobs is \(self.jobs); it must be from 1 to 256.")
        }
        if let minutes = self.minutes, !(0.1...1440).contains(minutes) {
            throw ValidationError("--minutes is \(minutes); it must be from 0.1 to 1440.")
        }
        if let seconds = self.seconds, !(1...1_000_000).contains(seconds) {
            throw ValidationError("--seconds is \(seconds); it must be from 1 to 1000000.")
        }
    }

    func run() async throws {
        try self.startAnewWithoutChance()
        if let file = self.plan { return try self.replay(self.read(file)) }
        if self.trace || self.runs == 1 { return try self.replay(Plan(seed: self.seed, minutes: self.minutes)) }
        try await self.runMany()
    }

    /// Swift draws a seed for its hash tables when a process starts, and the order of a dictionary depends on it. A run has to
    /// depend on nothing but its own seed, so the process starts once more, with hashing that knows no chance.
    private func startAnewWithoutChance() throws {
        let name = "SWIFT_DETERMINISTIC_HASHING"
        guard ProcessInfo.processInfo.environment[name] == nil else { return }
        setenv(name, "1", 1)
        let path = Bundle.main.executablePath ?? CommandLine.arguments[0]
        var arguments = CommandLine.arguments.map { strdup($0) } + [nil]
        execv(path, &arguments)
        throw ValidationError("\(path) could not be started anew: \(String(cString: strerror(errno)))")
    }

    private func read(_ file: String) throws -> Plan {
        let data: Data
        do {
            data = try Data(contentsOf: URL(filePath: file))
        } catch {
            throw ValidationError("\(file) cannot be read: \(error.localizedDescription)")
        }
        do {
            return try JSONDecoder().decode(Plan.self, from: data)
        } catch {
            throw ValidationError("\(file) is no plan: \(error). A failing run prints one.")
        }
    }

    // MARK: One

    private func replay(_ plan: Plan) throws {
        let trace = Trace()
        let outcome = try Plan.run(plan, trace: self.trace ? trace : nil)
        for line in trace.lines { print(line) }
        guard let violation = outcome.violation else {
            print(
                "kept: seed \(plan.seed), \(plan.faults.count) faults in \(plan.minutes) min, "
                    + "\(outcome.messages) messages, \(outcome.gaps) gaps told, \(outcome.connects) connects")
            return
        }
        self.tell(Campaign.Failure(seed: plan.seed, violation: violation), plan)
        throw ExitCode.failure
    }

    private func tell(_ failure: Campaign.Failure, _ plan: Plan) {
        print("BROKEN at \(failure.violation.at) s of seed \(failure.seed): \(failure.violation)")
        guard self.shrink else { return }
        var shrinker = Shrinker()
        let small = shrinker.shrink(plan, failure.violation)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        guard let text = (try? encoder.encode(small)).map({ String(decoding: $0, as: UTF8.self) }) else { return }
        print(
            "  smaller: \(small.faults.count) of \(plan.faults.count) faults, \(small.clients) clients; run it with --plan:"
        )
        for fault in small.faults { print("    \(fault)") }
        print("  \(text)")
    }

    // MARK: Many

    private func runMany() async throws {
        let clock = ContinuousClock()
        let start = clock.now
        let next = NIOLockedValueBox(0)
        let end = self.seconds.map { start + .seconds($0) }
        let progress = SimulationProgress(total: self.runs, isQuiet: self.json)
        let tally = try await withThrowingTaskGroup(of: Campaign.Tally.self) { group in
            for _ in 0..<self.jobs {
                group.addTask { try self.work(next, until: end, progress) }
            }
            var sum = Campaign.Tally()
            for try await part in group { sum.add(part) }
            return sum
        }
        let seconds = (clock.now - start) / .seconds(1)
        for failure in tally.failures.sorted(by: { $0.seed < $1.seed }).prefix(Self.mostTold) {
            if !self.json { self.tell(failure, Plan(seed: failure.seed, minutes: self.minutes)) }
        }
        try self.summarize(tally, seconds)
        if !tally.failures.isEmpty { throw ExitCode.failure }
    }

    /// Failing runs that are made smaller and told; the others are counted.
    private static let mostTold = 5

    private func work(
        _ next: NIOLockedValueBox<Int>,
        until end: ContinuousClock.Instant?,
        _ progress: SimulationProgress
    ) throws -> Campaign.Tally {
        var tally = Campaign.Tally()
        while end.map({ ContinuousClock.now < $0 }) ?? true {
            let index = next.withLockedValue { value in
                defer { value += 1 }
                return value
            }
            guard index < self.runs else { break }
            let one = Campaign(firstSeed: self.seed &+ UInt64(index), runs: 1, minutes: self.minutes)
            let result = try one.run()
            tally.add(result)
            progress.add(result)
        }
        return tally
    }

    private func summarize(_ tally: Campaign.Tally, _ seconds: Double) throws {
        if self.json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
            return print(String(decoding: try encoder.encode(tally), as: UTF8.self))
        }
        let rate = Double(tally.runs) / seconds * 60
        print(
            """
            \(tally.runs) runs from seed \(self.seed), \(tally.failures.count) broken: \(Int(tally.virtualMinutes)) virtual minutes \
            in \(Int(seconds)) s (\(Int(rate)) runs a minute)
            \(tally.faults) faults, \(tally.connects) connects, \(tally.publications) publications, \(tally.messages) deliveries, \
            \(tally.gaps) gaps told, \(tally.steps) steps
            """)
    }
}

/// Says from time to time how far it is.
private final class SimulationProgress: Sendable {
    private struct State {
        var runs = 0
        var failures = 0
        var last = ContinuousClock.now
    }

    private let state = NIOLockedValueBox(State())
    private let total: Int
    private let isQuiet: Bool

    init(total: Int, isQuiet: Bool) {
        self.total = total
        self.isQuiet = isQuiet
    }

    func add(_ tally: Campaign.Tally) {
        let line = self.state.withLockedValue { state -> String? in
            state.runs += tally.runs
            state.failures += tally.failures.count
            guard ContinuousClock.now - state.last > .seconds(5) else { return nil }
            state.last = .now
            return "\(state.runs) of \(self.total) runs, \(state.failures) broken"
        }
        if let line, !self.isQuiet { printError(line) }
    }
}
