import Foundation

/// A script that a Python outside of this process runs. It is handed over on standard input, so that there is no file of it.
struct PythonScript {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    let text: [UInt8]
    /// A path, or a name to look for where the shell would.
    let python: String

    /// Answers what the script wrote to standard output; its standard error is ours.
    ///
    /// - Parameter killAfter: seconds after which it is killed. The script has a limit of its own, and words for it.
    /// - Throws: ``Failure``, beside what the script may have said itself.
    func run(_ arguments: [String], killAfter: Double) async throws -> Data {
        let process = Process()
        process.executableURL = try self.executable()
        process.arguments = ["-"] + arguments
        let input = Pipe()
        let output = Pipe()
        process.standardInput = input
        process.standardOutput = output
        // A Python that does not read ends us otherwise.
        signal(SIGPIPE, SIG_IGN)
        let status = try await withCheckedThrowingContinuation {
            (continuation: CheckedContinuation<Ended, any Error>) in
            // Foundation waits on a thread of its own: the script, the pipe and the limit must not wait for each other.
            Thread.detachNewThread { [text] in
                do {
                    try process.run()
                } catch {
                    let reason = "\(self.python) cannot be run: \(error.localizedDescription)"
                    return continuation.resume(throwing: Failure(description: reason))
                }
                let id = process.processIdentifier
                let killer = DispatchWorkItem { kill(id, SIGKILL) }
                DispatchQueue.global().asyncAfter(deadline: .now() + killAfter, execute: killer)
                try? input.fileHandleForWriting.write(contentsOf: Data(text))
                try? input.fileHandleForWriting.close()
                let written = (try? output.fileHandleForReading.readToEnd()) ?? nil
                process.waitUntilExit()
                killer.cancel()
                let (code, reason) = (process.terminationStatus, process.terminationReason)
                continuation.resume(returning: Ended(code: code, reason: reason, output: written ?? Data()))
            }
        }
        guard status.reason == .exit else {
            throw Failure(
                description:
                    "Nothing was written: \(self.python) was ended by signal \(status.code); after \(killAfter) s we send 9."
            )
        }
        guard status.code == 0 else {
            throw Failure(description: "Nothing was written: \(self.python) ended with exit code \(status.code).")
        }
        guard !status.output.isEmpty else {
            throw Failure(description: "Nothing was written: the module ends Python before it is read to the end.")
        }
        return status.output
    }

    private struct Ended: Sendable {
        let code: Int32
        let reason: Process.TerminationReason
        let output: Data
    }

    private func executable() throws(Failure) -> URL {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
        let candidates =
            self.python.contains("/")
            ? [self.python] : path.split(separator: ":").map { "\($0)/\(self.python)" }
        let found = candidates.first { candidate in
            var isDirectory: ObjCBool = false
            return FileManager.default.fileExists(atPath: candidate, isDirectory: &isDirectory)
                && !isDirectory.boolValue
                && FileManager.default.isExecutableFile(atPath: candidate)
        }
        guard let found else {
            throw Failure(
                description:
                    "\(self.python) is not there. SocketShark's configuration is Python: name one with --python PATH, "
                    + "best the one that runs SocketShark.")
        }
        return URL(fileURLWithPath: found)
    }
}
