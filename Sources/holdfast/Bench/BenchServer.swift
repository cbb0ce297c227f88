import ArgumentParser
import AsyncHTTPClient
import Foundation
import HoldfastClient
import HoldfastProtocol
import NIOCore

/// The server that is measured: a process of its own.
final class BenchServer {
    struct Usage {
        /// User and system time of the server's process, in seconds, as it reports itself.
        let cpu: Double
        /// System time alone.
        let kernel: Double
        /// Writes to transports so far.
        let writes: Double
        /// Proportional set size in bytes; `nil` where the system does not tell.
        let memory: Int?
    }

    let publisher: EventPublisher
    let host = "127.0.0.1"
    let port: Int
    private let process: Process

    /// Starts a server on a free port.
    /// - Parameters:
    ///   - threads: event loops of a gateway; the other subjects always have one.
    ///   - core: processor to keep it on; `nil` leaves it free.
    init(_ subject: BenchSubject, threads: Int, core: Int?) throws {
        self.process = Process()
        let executable = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        let arguments = subject.arguments
        if let core {
            self.process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            self.process.arguments = ["taskset", "-c", "\(core)", executable.path] + arguments
        } else {
            self.process.executableURL = executable
            self.process.arguments = arguments
        }
        self.process.environment = ProcessInfo.processInfo.environment.merging([
            "HOLDFAST_THREADS": "\(threads)", "HOLDFAST_LOG_LEVEL": "error",
            "HOLDFAST_DRAIN_WINDOW": "0", "HOLDFAST_DRAIN_DEADLINE": "0",
        ]) { $1 }
        let output = Pipe()
        self.process.standardOutput = output
        try self.process.run()
        var line = ""
        while !line.hasSuffix("\n") {
            let bytes = output.fileHandleForReading.readData(ofLength: 1)
            guard !bytes.isEmpty else {
                printError("The server to be measured (\(subject.title)) did not start.")
                throw ExitCode.failure
            }
            line += String(decoding: bytes, as: UTF8.self)
        }
        guard let colon = line.lastIndex(of: ":"), let port = Int(line[line.index(after: colon)...].dropLast()) else {
            printError("The server to be measured (\(subject.title)) said: \(line)")
            throw ExitCode.failure
        }
        self.port = port
        self.publisher = try EventPublisher(url: "http://127.0.0.1:\(port)")
    }

    func usage() async throws -> Usage {
        let request = HTTPClientRequest(url: "http://127.0.0.1:\(self.port)/metrics")
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(10))
        let metrics = String(buffer: try await response.body.collect(upTo: 1 << 24))
        func value(_ name: String) throws -> Double {
            let line = metrics.split(separator: "\n").first { $0.hasPrefix(name + " ") }
            guard let value = line.flatMap({ Double($0.split(separator: " ")[1]) }) else {
                printError("The server's /metrics has no \(name).")
                throw ExitCode.failure
            }
            return value
        }
        return Usage(
            cpu: try value("process_cpu_seconds_total"),
            kernel: try value("process_cpu_system_seconds_total"),
            writes: try value("holdfast_writes_total"),
            memory: self.proportionalSetSize()
        )
    }

    private func proportionalSetSize() -> Int? {
        let path = "/proc/\(self.process.processIdentifier)/smaps_rollup"
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return nil }
        return text.split(separator: "\n").first { $0.hasPrefix("Pss:") }
            .flatMap { $0.split(separator: " ").dropFirst().first }.flatMap { Int($0) }.map { $0 * 1024 }
    }

    func stop() {
        self.process.terminate()
        self.process.waitUntilExit()
    }
}

/// Keeps this process on one core, so that it and the gateway do not take turns.
func pin(to core: Int) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["taskset", "-apc", "\(core)", "\(ProcessInfo.processInfo.processIdentifier)"]
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
        printError("--pin needs taskset (Debian package util-linux) and two cores.")
        throw ExitCode.failure
    }
}
