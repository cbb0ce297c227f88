import ArgumentParser
import Foundation
import HoldfastServer

/// The options that say where a gateway's configuration comes from.
struct ConfigurationSource: ParsableArguments {
    @Option(name: [.short, .long], help: ArgumentHelp("YAML file with the configuration.", valueName: "file"))
    var config: String?

    @Flag(name: .long, help: "For development: anonymous clients, every service.topic allowed, history kept.")
    var dev = false

    /// - Throws: `ExitCode.failure` after everything that is wrong was printed to standard error.
    func load() throws -> Configuration {
        let base = self.dev ? Configuration.development : Configuration()
        return try Self.load(file: self.config, over: base)
    }

    static func load(file: String?, over base: Configuration) throws -> Configuration {
        var configuration = base
        do {
            let yaml = try file.map { try String(contentsOfFile: $0, encoding: .utf8) } ?? ""
            try configuration.load(
                yaml: yaml,
                file: file ?? "environment",
                environment: ProcessInfo.processInfo.environment
            )
            return configuration
        } catch let error as ConfigurationError {
            printError("The configuration cannot be used:\n\(error)\nEvery key is described in docs/configuration.md.")
        } catch {
            printError("\(file ?? "The file") cannot be read: \(error.localizedDescription)")
        }
        throw ExitCode.failure
    }
}
