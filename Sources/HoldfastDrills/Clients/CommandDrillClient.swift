import Foundation
import Synchronization

/// A client in a process of its own, which speaks the line protocol.
final class CommandDrillClient: DrillClient {
    let log: SightingLog
    private let command: [String]
    private let environment: [String: String]
    private let child = Mutex<ChildProcess?>(nil)
    private let isClosing = Mutex(false)

    /// - Parameter command: a program by its path, and its arguments.
    init(command: [String], environment: [String: String], log: SightingLog) {
        self.command = command
        self.environment = environment
        self.log = log
    }

    /// Whatever a shell understands.
    static func shell(_ text: String) -> [String] { ["/bin/sh", "-c", text] }

    var pid: Int32? { self.child.withLock { $0?.pid } }

    func connect(url: String, subscription: String) async throws {
        let log = self.log
        let child = try ChildProcess(
            "the client", self.command[0], Array(self.command.dropFirst()),
            environment: ChildProcess.environment(adding: self.environment)
        ) { [weak self] line in
            switch line {
            case .text(let text)?: LineProtocol.sighting(text).map { log.append($0) }
            case .tooLong(let bytes)?:
                log.append(.failed("it wrote a line of \(bytes) bytes, where at most \(LineReader.limit) are read"))
            case nil: self?.hasEnded()
            }
        }
        self.child.withLock { $0 = child }
        child.send(LineProtocol.Order.connect(url: url, subscription: subscription).line)
    }

    /// What it wrote last is the best explanation that there is.
    private func hasEnded() {
        guard !self.isClosing.withLock({ $0 }) else { return }
        let words = self.child.withLock { $0?.lastErrors.suffix(3).joined(separator: " / ") } ?? ""
        self.log.append(.failed("it has ended by itself\(words.isEmpty ? "" : ": \(words)")"))
    }

    private func send(_ order: LineProtocol.Order) {
        // One that does not read any more has ended, and its log says so.
        _ = self.child.withLock { $0?.send(order.line) }
    }

    func wake() { self.send(.wake) }

    func hide() { self.send(.hide) }

    func signal(_ number: Int32) { self.child.withLock { $0?.signal(number) } }

    /// How long it has to go after `close`, in seconds.
    private static let closeDeadline = 3.0

    func close() async {
        self.isClosing.withLock { $0 = true }
        guard let child = self.child.withLock({ $0 }) else { return }
        child.send(LineProtocol.Order.close.line)
        _ = try? await child.ended(within: Self.closeDeadline)
        await child.kill()
    }
}
