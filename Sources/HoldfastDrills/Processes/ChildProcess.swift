import Foundation
import Synchronization

/// A program that a drill has started: its lines, its signals, its end. Children that are still there when the drills
/// end are killed.
final class ChildProcess: Sendable {
    /// Lines of standard error that are kept, for the report of a failure.
    static let errorLines = 40

    let name: String
    let pid: pid_t
    private let process: Process
    private let input: FileHandle
    private let errors = Mutex<[String]>([])

    private static let running = Mutex<Set<pid_t>>([])

    /// - Parameters:
    ///   - environment: all of it.
    ///   - files: most file descriptors that it may open; `nil` leaves the system's limit.
    ///   - onLine: is called with each line of its standard output, on a thread of its own, and with `nil` at the end.
    init(
        _ name: String,
        _ executable: String,
        _ arguments: [String],
        environment: [String: String],
        files: Int? = nil,
        onLine: @escaping @Sendable (LineReader.Line?) -> Void
    ) throws {
        let process = Process()
        if let files {
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = ["-c", "ulimit -n \(files) && exec \"$0\" \"$@\"", executable] + arguments
        } else {
            process.executableURL = URL(fileURLWithPath: executable)
            process.arguments = arguments
        }
        process.environment = environment
        let input = Pipe()
        let output = Pipe()
        let errors = Pipe()
        process.standardInput = input
        process.standardOutput = output
        process.standardError = errors
        do {
            try process.run()
        } catch {
            throw DrillError("\(name) cannot be started (\(executable)): \(error.localizedDescription)")
        }
        self.name = name
        self.process = process
        self.pid = process.processIdentifier
        self.input = input.fileHandleForWriting
        Self.running.withLock { _ = $0.insert(process.processIdentifier) }
        Self.follow(output.fileHandleForReading, onLine)
        Self.follow(errors.fileHandleForReading) { [weak self] line in
            guard case .text(let text)? = line else { return }
            self?.errors.withLock { lines in
                lines.append(text)
                if lines.count > Self.errorLines { lines.removeFirst() }
            }
        }
    }

    private static func follow(_ handle: FileHandle, _ onLine: @escaping @Sendable (LineReader.Line?) -> Void) {
        let thread = Thread {
            var reader = LineReader()
            while true {
                let data = handle.availableData
                guard !data.isEmpty else { break }
                for line in reader.read(data) { onLine(line) }
            }
            onLine(nil)
        }
        thread.start()
    }

    var isRunning: Bool { self.process.isRunning }

    /// The last lines of its standard error.
    var lastErrors: [String] { self.errors.withLock { $0 } }

    /// - Returns: false if it does not read any more.
    @discardableResult
    func send(_ line: String) -> Bool {
        (try? self.input.write(contentsOf: Data((line + "\n").utf8))) != nil
    }

    /// To it and to the programs that it has started itself, where it leads a process group.
    func signal(_ number: CInt) {
        guard self.process.isRunning else { return }
        Foundation.kill(getpgid(self.pid) == self.pid ? -self.pid : self.pid, number)
    }

    /// Waits for its end. - Returns: false if it runs on after the deadline.
    func ended(within seconds: Double) async throws -> Bool {
        let ended = try await wait(DrillClock(), until: seconds) { self.process.isRunning ? nil : true }
        return ended ?? false
    }

    /// Kills it, at once.
    func kill() async {
        self.signal(SIGKILL)
        _ = try? await self.ended(within: 5)
        try? self.input.close()
        Self.running.withLock { _ = $0.remove(self.pid) }
    }

    /// Kills all that are left. For the end of the program, by a signal too.
    static func killAll() {
        let left = Self.running.withLock { running in
            defer { running = [] }
            return running
        }
        for pid in left { Foundation.kill(getpgid(pid) == pid ? -pid : pid, SIGKILL) }
    }

    /// Ours, without what would configure a gateway.
    static func environment(adding added: [String: String]) -> [String: String] {
        ProcessInfo.processInfo.environment
            .filter { !$0.key.hasPrefix("HOLDFAST_") }
            .merging(added) { $1 }
    }
}
