import Foundation
import Synchronization

/// Runs drills side by side, those that want to be alone after the others.
public struct DrillRunner: Sendable {
    /// What happens to a drill, for people who wait.
    public enum Progress: Sendable {
        case begun(String)
        case now(String, String)
        case ended(DrillResult)
    }

    private let settings: DrillSettings
    private let atOnce: Int
    private let progress: @Sendable (Progress) -> Void

    /// - Parameter atOnce: most drills at a time.
    public init(settings: DrillSettings, atOnce: Int, progress: @escaping @Sendable (Progress) -> Void) {
        self.settings = settings
        self.atOnce = atOnce
        self.progress = progress
    }

    /// - Returns: the results in the order of `drills`.
    public func run(_ drills: [Drill]) async -> [DrillResult] {
        var results: [String: DrillResult] = [:]
        await withTaskGroup(of: DrillResult.self) { group in
            var waiting = drills.filter { !$0.isAlone }[...]
            for drill in waiting.prefix(self.atOnce) { group.addTask { await self.run(drill) } }
            waiting = waiting.dropFirst(self.atOnce)
            for await result in group {
                results[result.drill] = result
                if let next = waiting.popFirst() { group.addTask { await self.run(next) } }
            }
        }
        for drill in drills where drill.isAlone { results[drill.name] = await self.run(drill) }
        return drills.compactMap { results[$0.name] }
    }

    /// Longer than any drill takes that still does something, in seconds.
    private var deadline: Double { 240 + 2 * max(self.settings.pace.watch, self.settings.pace.sleep) }

    private func run(_ drill: Drill) async -> DrillResult {
        self.progress(.begun(drill.name))
        let stage = Stage(drill, settings: self.settings) { self.progress(.now(drill.name, $0)) }
        do {
            try self.allow(drill)
            try await self.withDeadline { try await drill.run(stage) }
            stage.change { result in
                // A drill without a check has judged nothing.
                if result.checks.isEmpty {
                    result.verdict = .error("the drill has judged nothing")
                } else if result.checks.contains(where: { !$0.isPassed }) {
                    result.verdict = .failed
                }
            }
        } catch let error as DrillError where error.isNotRun {
            stage.change { $0.verdict = .notRun(error.description) }
        } catch {
            stage.change { $0.verdict = .error("\(error)") }
        }
        let seconds = stage.clock.now
        await stage.end()
        stage.change { $0.seconds = seconds }
        self.progress(.ended(stage.current))
        return stage.current
    }

    private func withDeadline(_ body: @escaping @Sendable () async throws -> Void) async throws {
        let deadline = self.deadline
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await body() }
            group.addTask {
                try await Task.sleep(for: .seconds(deadline))
                throw DrillError("the drill did not end in \(deadline.tenths) s")
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// - Throws: why a drill cannot be run here.
    private func allow(_ drill: Drill) throws {
        for need in drill.needs {
            switch need {
            case .ownGateway where self.settings.url != nil:
                throw DrillError.notRun("it needs a gateway that it may configure and kill; --url names yours")
            case .ownGateway where self.settings.publish != nil:
                throw DrillError.notRun("it publishes to several gateways or at another pace; --publish is one command")
            case .redis where Programs.path(of: "redis-server") == nil:
                throw DrillError.notRun("redis-server is not on PATH")
            case .page where self.settings.with == nil:
                throw DrillError.notRun("it needs a page: --with the browser's adapter")
            case .swiftClient where self.settings.with != nil:
                throw DrillError.notRun("it needs a client with two subscriptions, which --with cannot ask for")
            case .ownGateway, .redis, .page, .swiftClient: break
            }
        }
    }

    /// Ends what is left of the drills' processes, when the program is ended from outside.
    public static func killAll() { ChildProcess.killAll() }
}

/// Where programs are.
enum Programs {
    static func path(of name: String) -> String? {
        (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
            .map { "\($0)/\(name)" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }
}
