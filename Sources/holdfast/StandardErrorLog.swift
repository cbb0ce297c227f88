import ArgumentParser
import Logging

enum StandardErrorLog {
    /// A logger that writes to standard error, so that standard output stays for what a command answers.
    static func logger(level: String) throws -> Logger {
        guard let level = Logger.Level(rawValue: level) else {
            throw ValidationError("Unknown log level \"\(level)\".")
        }
        var logger = Logger(label: "holdfast") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = level
        return logger
    }
}
