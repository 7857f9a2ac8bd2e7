import static org.apache.spark.sql.functions.expr;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.apache.spark.sql.AnalysisException;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

/**
 * Files of Parquet as Spark reads them, for tests: Rows FILE... A line with the error that files with nanoseconds are refused with;
 * then of each file, once by vectors and once by rows (which is how Spark reads wide tables), a line with its columns when
 * nanoseconds are to be numbers, and its rows as JSON: timestamps as microseconds, decimals and dates as text, binary in base64.
 */
public final class Rows {
    private static final String NANOS_AS_LONG = "spark.sql.legacy.parquet.nanosAsLong";

    public static void main(String[] files) throws Exception {
        SparkSession spark = SparkSession.builder()
            .master("local[1]")
            // What fails is thrown, and what is to fail says nothing.
            .config("spark.log.level", "OFF")
            .config("spark.ui.enabled", false)
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.sql.jsonGenerator.ignoreNullFields", false)
            .getOrCreate();
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
        try {
            spark.read().parquet(files).schema();
            out.println("nothing refused");
        } catch (Exception error) {
            // Java does not know that Scala throws it.
            if (!(error instanceof AnalysisException refused)) {
                throw error;
            }
            out.println(refused.getCondition());
        }
        spark.conf().set(NANOS_AS_LONG, true);
        for (String file : files) {
            for (boolean vectorized : new boolean[] {true, false}) {
                spark.conf().set("spark.sql.parquet.enableVectorizedReader", vectorized);
                Dataset<Row> rows = spark.read().parquet(file);
                out.println(rows.schema().toDDL());
                rows.withColumn("price", expr("cast(price as string)"))
                    .withColumn("sum", expr("cast(sum as string)"))
                    .withColumn("at_ms", expr("unix_micros(at_ms)"))
                    .withColumn("at_us", expr("unix_micros(cast(at_us as timestamp))"))
                    .withColumn("at_ns", expr("at_ns div 1000"))
                    .select(expr("to_json(struct(*))"))
                    .as(Encoders.STRING())
                    .collectAsList()
                    .forEach(out::println);
            }
        }
        out.flush();
        spark.stop();
    }
}
