import ArgumentParser
import Foundation

struct ImportSocketShark: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import-socketshark",
        abstract: "Make a configuration file from SocketShark's.",
        discussion: """
            SocketShark's configuration is a Python module. It is run once, with a Python of yours, and what it sets is \
            written as YAML:
              holdfast import-socketshark config.py --output holdfast.yml
              holdfast import-socketshark shark.settings.production > holdfast.yml
              holdfast check holdfast.yml

            Run it where SocketShark runs, with the same environment and the same Python, since the module may import from \
            there: values that it takes from the environment are written as they are now.
              --python venv/bin/python

            Standard error has a line for everything that cannot be carried over, and what to do about it. Passwords in \
            URLs are in the file, but never in these lines. Exit code 0 means that there is a file, notes or not.
            """
    )

    @Argument(
        help: ArgumentHelp(
            "The module: a .py file, or the dotted name that `socketshark -c` takes.", valueName: "config"))
    var module: String

    @Option(name: .shortAndLong, help: ArgumentHelp("Where to write; standard output if missing.", valueName: "file"))
    var output: String?

    @Flag(name: .long, help: "Replace the file if there is one.")
    var force = false

    @Option(name: .long, help: "Python 3.7 or newer to run the module with.")
    var python = "python3"

    @Option(name: .long, help: "Seconds that the module may take.")
    var timeout = 30.0

    func validate() throws {
        guard (0.1...3600).contains(self.timeout) else {
            throw ValidationError("--timeout must be from 0.1 to 3600, but is \(self.timeout).")
        }
    }

    func run() async throws {
        // Looked at before anything is run; `write` makes sure.
        if let output, !self.force, FileManager.default.fileExists(atPath: output) { throw self.isThere(output) }
        let yaml: Data
        do {
            let script = PythonScript(text: PackageResources.import_socketshark_py, python: self.python)
            yaml = try await script.run([self.module, String(self.timeout)], killAfter: self.timeout + 5)
        } catch let error as PythonScript.Failure {
            printError(error.description)
            throw ExitCode.failure
        }
        try self.write(yaml)
    }

    private func write(_ yaml: Data) throws {
        guard let output = self.output else {
            FileHandle.standardOutput.write(yaml)
            return printError("next: save this as a file, holdfast.yml say, and run: holdfast check holdfast.yml")
        }
        do {
            try yaml.write(to: URL(fileURLWithPath: output), options: self.force ? .atomic : .withoutOverwriting)
        } catch CocoaError.fileWriteFileExists {
            throw self.isThere(output)
        } catch {
            printError("\(output) cannot be written: \(error.localizedDescription)")
            throw ExitCode.failure
        }
        printError("written to \(output)\nnext: holdfast check \(output)")
    }

    private func isThere(_ file: String) -> ExitCode {
        printError("\(file) is there already, and nothing was changed. Write to another, or replace it with --force.")
        return ExitCode.failure
    }
}
